// Package backend is a named pool of servers: which one gets a request, how it is reached, which connections
// are kept, and when a request may be tried again.
//
//	Attempt.Open   picks an available server that was not tried, takes a kept connection or dials
//	Stream         one exchange with it, in whichever protocol
//	Release        keeps the connection if it is fit for another exchange
//
// What this host is short of (Places, descriptors, local ports, memory of the kernel) says nothing about a server: see
// shortage.go. The request waits in line and then gets a ShortError.
//
// A server that refused or could not be reached gets no requests until it has answered a probe. The retry rule is that of RFC 9110
// section 9.2.2: another server is tried while nothing was sent; what was sent may be sent again only if the
// method is idempotent, its body is at hand, and not a byte of an answer came. What a server of HTTP/2 says
// that it has not processed counts as not sent (RFC 9113 section 8.7).
package backend
