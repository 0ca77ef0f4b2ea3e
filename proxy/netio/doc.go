// Package netio is the connection that mpgate's codecs speak on: a TCP, MPTCP or unix socket whose
// input and output cost as few system calls, wake-ups and bytes as a proxy can do with.
//
//   - Raw. Reads and writes run inside syscall.RawConn callbacks, on Go's own poller, where the socket
//     does not block, so they go through RawSyscall and leave the scheduler alone. Race builds use the
//     ordinary call, which the race detector sees.
//   - Lazy. Write holds bytes back, Flush sends them, and a read sends what is held before it waits: what
//     one side of an exchange owes leaves in one write(2), also under crypto/tls. The rule for whoever
//     streams: before you wait for one side, flush the other.
//   - Read first. RawConn.Read forgets readiness that it has not yet told, so a read is always tried
//     before waiting; an edge that came earlier would otherwise be lost.
//   - Quiet. Fill takes its buffer from a pool once there is something to read. An idle connection holds none.
//   - Deadlines are lazy too: moving one further away is a store, and the poller's timer is set again
//     only when it fires too early.
//
// One goroutine reads at a time, and any may write: the write side has its own lock, which a reader
// only tries, so that a reader and a blocked writer cannot wait for each other.
package netio
