package backend

import (
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http1"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// Stream is one exchange with a server. It is an interface because an HTTP/1 exchange uses a whole
// connection and an HTTP/2 exchange a part of one.
type Stream interface {
	message.BodyWriter
	// WriteHead begins the exchange. The head is buffered until Flush or ReadHead.
	WriteHead(*message.Request) error
	// ReadHead waits for the next head, interim or final. At the deadline it returns
	// os.ErrDeadlineExceeded and may be called again.
	ReadHead(r *message.Response, deadline time.Time) error
	// Tunnel makes what is written from now on part of the protocol that a 101 changed to. The
	// whole request must have been written.
	Tunnel()
	// Body returns the body of the final response.
	Body() message.BodyReader
	// SetTrailer sets where the trailer of the final response goes: by default to the Response of
	// ReadHead. It is called before the first read of the body.
	SetTrailer(*message.Header)
	// SetProgress is for an exchange that moves in both directions at once: reads is the progress
	// of the response, writes that of the request's body. Nil for both ends that.
	SetProgress(reads, writes *netio.Progress)
	// Answered reports whether a byte of a response has arrived.
	Answered() bool
	// NoteAuthentication must be called with the header of the final response. If the response
	// takes part in authenticating the connection, only the owner may use it from then on.
	NoteAuthentication(h *message.Header, o *Owner)
	// MayReturn reports whether the server may return a request unprocessed, to be sent again
	// whatever its method is.
	MayReturn() bool
	// Reused reports whether the connection carried exchanges before, so that it may be dead
	// without notice.
	Reused() bool
	// State returns the transport and the number of subflows, at most a second old.
	State(now time.Time) (mptcp.Transport, int)
	// Abort ends the exchange at once, from any goroutine. Calls in progress return an error.
	Abort()
	// Release ends the exchange and keeps the connection if it can be used again. It must be the
	// last call.
	Release(now time.Time)
}

// conn is a connection to a server that carries one HTTP/1 exchange at a time.
type conn struct {
	*http1.ClientConn
	link   *Link
	used   time.Time // when it last became idle
	served int       // requests
	reused bool
	owner  *Owner // nil: any client may use it

	unrepeatable  bool   // the present request cannot be repeated
	segmentsKnown bool   // segments is valid
	segments      uint32 // that were received until it became idle; see peerState
}

// begin prepares the connection for the exchange of a request.
func (c *conn) begin(r *Request) *conn {
	c.link.server.requestBegins()
	c.served++
	c.unrepeatable = !r.Repeatable
	if r.Authenticates {
		c.owner = r.Owner
	}
	return c
}

func (c *conn) MayReturn() bool { return false }

func (c *conn) Reused() bool { return c.reused }

func (c *conn) State(now time.Time) (mptcp.Transport, int) { return c.link.State(now) }

func (c *conn) NoteAuthentication(h *message.Header, o *Owner) {
	if isChallenge(h) || declaresAuthenticated(h) {
		c.owner = o
	}
}

func (c *conn) Release(now time.Time) {
	s := c.link.server
	s.requestEnds()
	c.segmentsKnown = false
	if c.unrepeatable && c.Reusable() { // the next request may be unrepeatable, too
		c.noteSegments()
	}
	switch {
	case !c.Reusable() || c.link.outdated(now) || s.backend.options.Keep.usedUp(c.served):
		c.close()
	case c.owner != nil:
		s.putOwned(c, now)
	case c.link.info.Retired():
		c.close()
	case s.backend.options.SendProxy != 0: // the PROXY header names one client
		c.close()
	default:
		s.putIdle(c, now)
	}
}

func (c *conn) close() {
	c.link.countClose()
	_ = c.Close()
}
