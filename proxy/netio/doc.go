// Package netio provides the connection for mpgate's codecs: a TCP, MPTCP or unix socket whose I/O
// needs as few system calls, wake-ups and bytes as possible.
//
//   - Raw. Reads and writes run inside syscall.RawConn callbacks, on Go's own poller, where the socket
//     does not block, so they go through RawSyscall and leave the scheduler alone. Race builds use the
//     ordinary call, which the race detector sees.
//   - Lazy. Write buffers, Flush sends, and a read flushes before it waits: all data that one side of an
//     exchange has to send leaves in one write(2), also with crypto/tls. The rule for
//     streaming: before waiting for one side, flush the other.
//   - Read first. RawConn.Read resets readiness when it starts, so a read is always tried before
//     waiting; otherwise an earlier edge would be lost.
//   - Small. Fill takes its buffer from a pool when there is something to read. An idle connection has none.
//   - Deadlines are lazy too: moving one further away is a store, and the poller's timer is set again
//     only when it fires too early.
//
// One goroutine reads at a time, and any may write: the write side has its own lock, for which a
// reader never waits, so that a reader and a blocked writer cannot wait for each other.
//
// The files in the order of the data: conn.go (reads), buffer.go (what was read), writer.go (what
// is held), flush.go (when it is sent), stream.go (the same with TLS), splice_linux.go (bodies that
// stay in the kernel), deadline.go and pace.go (how long a wait may last), sys_*.go (the system
// calls).
package netio
