// Package soak tests the gateway for a long time: a build with the race detector serves all
// protocols, before servers that work and servers that die, hang, reset and answer garbage, while
// its configuration is reloaded every few seconds and the program is upgraded every minute. Each
// request has a number, which is counted at the client, at the servers and in the access log.
//
// This package consists of one test, which is short by default; the long form is run by
//
//	make soak
package soak
