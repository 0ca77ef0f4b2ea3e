// Package mptcp is the interface to the kernel's Multipath TCP (RFC 8684): whether
// this host supports it, the transport of a socket, its subflows and their
// traffic, dialling and listening, the endpoints and events of the namespace.
//
// It reports what the kernel says, not what was requested. The kernel does not
// report why a connection fell back (a [Reason] is inferred), whether a peer that
// uses TCP supports MPTCP, and what it is too old to know: such fields are zero,
// and Info.Has tells which fields are valid.
//
// On systems other than Linux the package builds, uses TCP, and reports that
// MPTCP is not supported.
package mptcp
