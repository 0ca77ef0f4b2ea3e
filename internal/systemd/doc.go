// Package systemd boots Debian 13, whose systemd 257 supports SocketProtocol=mptcp, in namespaces
// of its own, for tests of the program as a real service.
//
//	root file system (mmdebstrap, once, kept in the user's cache)
//	   └─ overlay on a tmpfs: what a test writes is gone with it
//	        └─ systemd as init of new mount, pid, net, uts, ipc and cgroup namespaces
//
// It needs root, unshare, nsenter, and mmdebstrap for the first time. The network namespace has a
// loopback device and nothing else; tests connect to services from inside it (Machine.Dial).
package systemd
