// Package message is the one HTTP message in the middle of mpgate: both codecs decode into it and
// encode from it, and every route and filter is written against it once.
//
// A Header is a flat, ordered list of fields. Names and values lie in one buffer that is reused
// from message to message, and well-known names are interned to small integers (ID), so that asking
// for a field is a bit test and a short walk, and nothing is allocated per request.
//
// Slices that a message hands out are valid until its Reset.
package message
