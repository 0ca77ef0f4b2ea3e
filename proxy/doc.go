// Package proxy is the data plane: connections in, exchanges through, connections on.
//
// The life of a request, and where it is written:
//
//  1. accept     a socket comes from its listener                     conn.go     Accept
//  2. wrap       netio.Conn around it, the kernel asked what it is    conn.go     serve
//  3. decode     http1 reads a head into message.Request              exchange.go read
//  4. begin      the exchange starts: id, time, peer                  exchange.go begin
//  5. match      the route table gives a route, or 404                exchange.go match
//  6. down       fields that only the gateway sets                   hygiene.go  vouch
//  7. forward    a server is picked and asked                         forward.go
//  8. body       both ways, streamed                                  relay.go
//  9. up         what a response gets on its way                      forward.go  deliver
//  10. end        the one exit: one log line, the metrics              exchange.go finish
//
// One goroutine serves a connection, and hands it to a fresh one where it is idle for long (park). A request
// body that still arrives, a tunnel, and a client that is watched while its server thinks borrow a second one,
// which the exchange joins before it ends.
package proxy
