// Package listener opens mpgate's front sockets, or takes them from systemd or
// a parent process, checks what the kernel granted, and accepts.
//
//	Inherited  the sockets that this process was given, by name
//	Open       one listener of the configuration: the inherited sockets of its
//	           name, or its addresses opened by ourselves
//	Serve      accepts on all its sockets; yields *net.TCPConn and
//	           *net.UnixConn, never wrapped: what is behind does raw I/O on them
//	Gate       the limit of connections that several listeners share
//
// Faults at the start are *Error, with a remedy. Once it serves nothing ends the
// accepting but the context and Close.
package listener
