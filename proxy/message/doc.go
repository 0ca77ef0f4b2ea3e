// Package message is the HTTP message between the codecs: both decode into it and encode from it,
// and routes and filters are independent of the HTTP version.
//
// A codec fills a Request or a Response (message.go), whose Header (header.go, id.go) holds the
// end-to-end fields. Its body passes from a BodyReader to a BodyWriter (body.go), and trailer.go
// cleans what follows it.
//
// A Header is a flat, ordered list of fields. Names and values lie in one buffer that is reused
// from message to message, and well-known names are interned to small integers (ID), so that asking
// for a field is a bit test and a short walk, and nothing is allocated per request.
//
// Slices that a message returns are valid until its Reset.
package message
