// Package target turns the target of a request, and its Host, into the one canonical form that
// mpgate matches routes with and forwards. A gateway that matches one spelling and forwards another
// lets a client choose a route whose policy is not that of the resource a server then serves
// (Caddy, Traefik and Envoy each had it: /public/..%2fadmin, //admin, /%61dmin).
//
// The functions are called in this order:
//
//	Split   the request target: its form (RFC 9112 3.2), scheme, authority, path, query
//	Host    the authority or the Host field: lower case, without a trailing dot, and the port
//	Path    the path: decoded, encoded and cleaned so that every server reads it alike; Flags say what is still ambiguous
//	Query   the query: what the grammar does not allow is percent-encoded
//	Decoded where Path left a flag: the path as a server sees it that decodes first; another route for it means 400
//
// Results point into the input where that is canonical already, which is nearly always so and then
// costs one pass and no copy. Otherwise they are appended to *scratch, which the caller empties
// between requests (not between calls); nothing else is allocated. What two parsers could read
// differently is refused, never repaired.
package target
