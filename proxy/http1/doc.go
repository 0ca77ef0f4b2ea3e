// Package http1 is the HTTP/1.1 codec (RFC 9112), towards clients and towards servers.
//
// It is strict: where leniency would let two parsers disagree about where a message ends, the
// message is refused, never repaired, and responses are read as strictly as requests. What HTTP/1
// says about one connection only - Connection and the fields that it names, Keep-Alive, TE,
// Transfer-Encoding, Content-Length, Upgrade - is removed while decoding and becomes members of
// the message, so that a message.Request or message.Response contains only what is end-to-end, and
// each side writes its own framing.
//
// The order of the files is that of a message: head.go (lines and fields), request.go, response.go,
// body.go (length, chunked, until-close), encode.go, then the two ends of a connection in server.go
// and client.go.
package http1
