// Package http2 is the HTTP/2 codec (RFC 9113), towards clients and towards servers, on the same
// messages as http1. The frames are read with golang.org/x/net/http2's Framer and the header blocks
// with its hpack decoder; the connection and its streams are ours:
//
//   - One goroutine reads a connection, and never waits for anything else, neither for a stream nor for
//     room to write. Each stream of a server has one goroutine, which calls it.
//   - One mutex guards all the state of a connection. Streams copy what they write into one buffer, so
//     that the frames of several streams leave in one write. Streams that have more than fits take turns by
//     urgency (RFC 9218).
//   - Back-pressure comes from the windows: a stream gets new credit only for what its reader has taken.
//     Windows grow while they limit the speed, within a budget for all connections. What was granted is always
//     accepted: when memory is short, less is granted from then on.
//   - Work that costs the peer nothing has a budget: resets, control frames, header blocks.
//
// The order of the files is that of a message: conn.go (the reading goroutine), block.go and
// head.go (header blocks), inbox.go (bodies that come), encode.go, schedule.go and write.go (what
// is sent), flow.go (windows), memory.go and pressure.go (when memory is short), budget.go, end.go
// (streams and connections that fail), then the two ends in server.go, with start.go (when handlers
// run), and client.go with their streams.
package http2
