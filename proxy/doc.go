// Package proxy is the data plane: it accepts connections, runs exchanges, and forwards tunnels.
//
// The life of a request, with the file of each step. The packages below proxy are named where a
// request comes to them:
//
//  1. accept      a connection comes from its listener                  conn.go       Accept      netio
//  2. set up      PROXY header, passed-through TLS, TLS handshake       setup.go      setup       preread
//  3. decode      the head becomes a message.Request                    exchange.go   read        http1, http2, message, target
//  4. begin       the exchange starts: id, time, client                 exchange.go   begin
//  5. match       the route table returns a route                       exchange.go   match       route
//  6. steps       what may end the exchange before its route answers    steps.go      step
//  7. filters     the last step: what the route does to requests        steps.go      filtered    filter, template
//  8. action      the route answers: Forward, or TCP for a connection   routes.go     Action      passthrough
//  9. forward     a server is selected and gets the request             forward.go    forward     backend
//  10. bodies     streamed in both directions                           upload.go, relay.go
//  11. head       the only place where the final head leaves; filters   response.go   sendHead
//  12. end        the only exit: one log line, the metrics              exchange.go   finish
//
// A connection that is forwarded unparsed is an exchange as a whole (tcp.go): it goes from step 2,
// or its accept, to steps 4, 8 and 12.
//
// A client is the other end of a connection; conn carries its bytes. One goroutine serves a
// connection, and hands it to a new one when it is idle for long (park). A request body that has
// not arrived completely, a tunnel, the second copy of a request (hedge.go), and watching a client
// while its server is processing use a second goroutine, which the exchange joins before it ends.
//
// Tunnels (tunnel.go, and wsclose.go for WebSockets) and connections that are passed through
// (passthrough.go) forward bytes with a passthrough.Pump. retry.go decides whether a request is
// sent again; kept.go keeps its body for that. outcome.go maps errors to answers and outcomes.
// accel.go continues an exchange with another route if its server asks for that (X-Accel-Redirect).
// lease.go and conn.go end connections and exchanges: for a reload (Expire) and a drain (Shutdown).
// room.go and shortage.go refuse requests when memory or descriptors run short.
package proxy
