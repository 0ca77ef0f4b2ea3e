// Package admin is how people and programs look at a running gateway and talk to it: metrics, health,
// an API in JSON, and one live page. It is on net/http, apart from the data plane, and never speaks
// MPTCP.
//
// On a unix socket it takes whatever Handlers are given, and the socket's mode says who may connect.
// On host:port it is read-only, and answers only to names that another site cannot make a browser use
// for it. Client is the other end, for the program's verbs.
package admin
