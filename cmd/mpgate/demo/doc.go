// Package demo has the servers behind `mpgate demo`. They are ordinary net/http servers, except
// that they listen with MPTCP (all but one, which uses TCP) and show in their responses what the
// kernel reports about the connection of the request.
//
//	/         what the request looked like, for users: HTML for browsers, text for curl
//	/headers  the same as JSON
//	/events   server-sent events, one a second
//	/slow     answers after ?seconds=3
//	/large    ?mib=100 of bytes, streamed
//	/echo     sends the request's body back while it still arrives
//	/ws       a WebSocket that sends messages back
//
// Each also answers below /tcp, so that a route can lead there.
package demo
