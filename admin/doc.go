// Package admin serves the admin address of a gateway: metrics, health, a JSON API and one live
// page. It uses net/http, is independent of the data plane, and never uses MPTCP.
//
// On a unix socket it serves all Handlers, and the mode of the socket decides who may connect. On
// host:port it is read-only, and checks Host and Origin against DNS rebinding. Client is the client
// for the program's commands.
package admin
