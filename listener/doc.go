// Package listener opens mpgate's listening sockets, or takes them from systemd or
// a parent process, checks what the kernel granted, and accepts connections.
//
//	Inherited  the sockets that this process was given, by name
//	Open       one listener of the configuration: the inherited sockets of its
//	           name, or its addresses opened by ourselves
//	Serve      accepts on all its sockets; yields *net.TCPConn and
//	           *net.UnixConn, never wrapped: the data plane does raw I/O on them
//	Gate       the limit of connections that several listeners share
//
// Errors at the start are of type *Error and have a remedy. After that, only the
// context and Close end accepting.
package listener
