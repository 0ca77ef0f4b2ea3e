// Package soak holds the gateway to its promises for a long time: a build with the race detector
// serves all protocols, before servers that work and servers that die, hang, reset and answer
// garbage, while its configuration is reloaded every few seconds and the program is upgraded every
// minute. Each request has a number, which is counted at the client, at the servers and in the
// access log.
//
// The test of this package is the whole of it: a short form by default, the long one by
//
//	make soak
package soak
