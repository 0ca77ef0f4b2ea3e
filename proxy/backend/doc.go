// Package backend is a named pool of servers. It selects a server for each request, connects to it,
// keeps idle connections, and decides whether a request may be retried.
//
//	Attempt.Open   selects an available server that was not tried, takes an idle connection or dials
//	Stream         one exchange with it, in either protocol
//	Release        keeps the connection if it can be used again
//
// A shortage of this host (Places, file descriptors, local ports, kernel memory) is not a failure
// of a server: see shortage.go. The request waits in line and then gets a ShortError.
//
// A server that refused or could not be reached gets no requests until it has answered a probe. The
// retry rule is that of RFC 9110 section 9.2.2: another server is tried while nothing was sent;
// what was sent may be sent again only if the method is idempotent, its body is available, and no
// byte of a response arrived. What a server of HTTP/2 says that it has not processed counts as not
// sent (RFC 9113 section 8.7).
package backend
