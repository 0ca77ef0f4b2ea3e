// Package backend is a named pool of servers. It selects a server for each request, connects to it,
// keeps idle connections, and decides whether a request may be retried.
//
//	Attempt.Open    selects a server that was not tried, takes an idle connection or dials
//	Stream          one exchange with the server, in HTTP/1 or HTTP/2
//	Stream.Release  keeps the connection if it can be used again
//
// Three questions are answered in one place each: which server a request prefers (balancer, and
// sticky for clients that have one), whether a server may be used (Server.available), and whether a
// server works again (check).
//
// The servers may come and go: an entry of Options.Servers with a name is followed by discover.go,
// and pool.go replaces the list. What is known about names is in resolver.go, names.go and srv.go;
// happyeyeballs.go chooses among the addresses of one server.
//
// A shortage on this host (connections, file descriptors, local ports, kernel memory) is not a
// failure of a server: see shortage.go. The request waits in a queue and then gets a ShortError.
//
// A server that refused a connection or could not be reached gets no requests until a check
// succeeds. The retry rule is that of RFC 9110 section 9.2.2: another server is tried while nothing
// was sent; what was sent may be sent again only if the method is idempotent (or Retry.AnyMethod
// says that it does not matter), its body is available, and no byte of a response has arrived,
// apart from a status that Retry names. What an HTTP/2 server says that it has not processed counts
// as not sent (RFC 9113 section 8.7). A budget bounds the retries.
//
// A request that waits for long may be sent a second time while the first copy waits on, to another
// server or over another path (hedge.go).
//
// A server may have a limit of requests and of connections (places.go). Requests that find all
// servers at their limits wait in the queue of the backend (queue.go).
package backend
