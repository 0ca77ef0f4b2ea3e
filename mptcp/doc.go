// Package mptcp is all that mpgate knows of the kernel's Multipath TCP (RFC
// 8684): whether this host has it, what a socket really speaks, which subflows
// it has and what they carry, dialling and listening with it, the namespace's
// endpoints and events.
//
// It reports what the kernel says, not what was asked for. Three things the
// kernel does not say: why a connection fell back (a [Reason] is inferred, and
// called so), whether a peer that spoke TCP was able to do more, and anything
// that this kernel is too old to know: such fields stay zero, and Info.Has
// tells which were given.
//
// On other systems than Linux the package builds, dials and listens by TCP, and
// says that there is no MPTCP.
package mptcp
