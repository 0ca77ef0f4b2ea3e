package filter

import (
	"context"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Request is a request on its way, with what the gateway knows about it. It is reused: nothing of
// it may be kept after FilterEnd.
type Request struct {
	// Request is what will be forwarded. Path and Query stay canonical, whatever a filter does.
	*message.Request
	// Record has the names of the listener and the route, the client, and the ID. The client is the
	// one behind trusted proxies; it is not valid for a peer on a unix socket.
	Record *telemetry.Record
	// Matched is the target by which the route was found, before filters changed it.
	Matched Target
	// Match says how the path of the route matched it; nil if nothing is known about that.
	Match Match
	// AddedSlash is true if the path ends with a slash only because a filter has removed all that
	// stood before it: "/docs", without "/docs".
	AddedSlash bool
	// Internal is true after an internal redirect: the request is not the client's any more.
	Internal bool
	// FromServer is true for the response of a server, false for one of the gateway's own.
	FromServer bool
	// OwnCookie is the value of the field Set-Cookie that the gateway has added to the response of
	// the server, by which the client stays with it; nil if there is none.
	OwnCookie []byte
	// Fields are added to the response, whoever gives it.
	Fields message.Header
	// Answer is how the exchange ends, if a filter ends it.
	Answer Answer
	// Status is that of the response; 0 before it is known.
	Status int
	// Context ends when the exchange must end.
	Context context.Context
	// Conn is the connection of the client; nil if there is none.
	Conn Conn
	// Client tells when the client leaves; nil if nobody waits for an answer.
	Client Watcher
	// Explain, if set, asks for an explanation: nothing is forwarded. A filter that would ask
	// others or count must not do so; it calls Explain with what it would do.
	Explain func(note string)

	entered  int // filters of the chain that have seen the request
	kept     []kept
	scratch  []byte // values of templates, until they are copied
	ends     []int  // of those values
	groups   []int  // see group
	grouped  bool
	replaced prefixes // by Rewrite
	origin   origin   // for CORS
}

// Match is the match of a route's path with the path of a request.
type Match interface {
	// Path is the path that was matched: canonical, with one slash for several in a row.
	Path() []byte
	// Star returns the part Path[from:to] that the last * of the route's path matched: all but the
	// first slash if the route has no path, nothing at the end if its path has no *.
	Star() (from, to int)
	// Groups returns the positions in Path of what the route's path_regex and its groups matched,
	// as regexp.FindSubmatchIndex does; nil if it has none.
	Groups() []int
}

// Watcher watches a client. A filter that waits for others uses it once they are late.
type Watcher interface {
	// WatchClient calls gone once, from another goroutine, when the client leaves. It cannot tell
	// while the body of a request over HTTP/1 is still to come.
	WatchClient(gone func())
	// StopWatchClient ends that, and waits for a call that is under way.
	StopWatchClient()
}

// Conn is a connection from a client.
type Conn interface {
	// Transport is the transport that it uses now, as in the access log.
	Transport() string
	// Path is the name of the declared path to whose address the client connected; "" if it is none
	// of a path.
	Path() string
}

// Target is the target of a request, canonical.
type Target struct {
	Host, Port, Path, Query []byte
	HasQuery                bool
}

// Answer is a response of the gateway's own. Its status, its reason and further fields are visible
// to the client.
type Answer struct {
	Status int
	End    telemetry.End
	// Text says what is wrong, in a few plain words: the body is made of it. A fixed text, as it is
	// logged.
	Text string
	// Body replaces the text if Type, its media type, is not "".
	Body []byte
	Type string
	// Bare means no body at all: the client may not read it.
	Bare bool
	// Store means that caches may store it. Others are sent with "Cache-Control: no-store".
	Store bool
}

// BodyError is an error of the reader of a request's body by which a filter ends the exchange.
type BodyError struct{ Answer Answer }

func (e *BodyError) Error() string { return e.Answer.Text }

// kept is a value that a filter keeps for the time of an exchange.
type kept struct {
	owner Filter
	value any
}

// Reset empties r for the next exchange and keeps its memory.
func (r *Request) Reset() {
	r.Fields.Reset()
	clear(r.kept)
	r.kept, r.scratch, r.ends = r.kept[:0], r.scratch[:0], r.ends[:0]
	// One by one: to replace all of *r would copy Fields twice. A test holds that none is left out.
	r.Matched = Target{}
	r.Match = nil
	r.AddedSlash, r.Internal, r.FromServer = false, false, false
	r.OwnCookie = nil
	r.Answer = Answer{}
	r.Status = 0
	r.Context, r.Conn, r.Client, r.Explain = nil, nil, nil, nil
	r.entered = 0
	r.groups, r.grouped = nil, false
	r.replaced = prefixes{}
	r.origin = origin{}
}

// Keep stores a value of f until the end of the exchange. A pointer costs no allocation.
func (r *Request) Keep(f Filter, value any) {
	for i := range r.kept {
		if r.kept[i].owner == f {
			r.kept[i].value = value
			return
		}
	}
	r.kept = append(r.kept, kept{f, value})
}

// Kept returns what f stored; nil if it stored nothing.
func (r *Request) Kept(f Filter) any {
	for i := range r.kept {
		if r.kept[i].owner == f {
			return r.kept[i].value
		}
	}
	return nil
}

// End is how the exchange ends: FilterRequest returns it.
func (r *Request) End(a Answer) (done bool) {
	r.Answer = a
	return true
}
