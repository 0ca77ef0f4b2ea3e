// Package proxy is the data plane: it accepts connections, runs exchanges, and forwards tunnels.
//
// The life of a request, with the file of each step:
//
//  1. accept     a connection comes from its listener                 conn.go     Accept
//  2. wrap       netio.Conn around it; the kernel reports transport   conn.go     serve
//  3. decode     http1 reads a head into message.Request              exchange.go read
//  4. begin      the exchange starts: id, time, peer                  exchange.go begin
//  5. match      the route table gives a route, or 404                exchange.go match
//  6. down       fields that only the gateway sets                    hygiene.go  vouch
//  7. forward    a server is selected and gets the request            forward.go
//  8. body       streamed in both directions                          relay.go
//  9. up         fields that are added to a response                  forward.go  deliver
//  10. end        the only exit: one log line, the metrics             exchange.go finish
//
// One goroutine serves a connection, and hands it to a new one when it is idle for long (park). A
// request body that has not arrived completely, a tunnel, and watching a client while its server is
// processing use a second goroutine, which the exchange joins before it ends.
package proxy
