package backend

import (
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http1"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// Stream is one exchange with a server, in whichever protocol. It is an interface because HTTP/1
// gives a whole connection to an exchange and HTTP/2 a part of one.
type Stream interface {
	message.BodyWriter
	// WriteHead begins the exchange; the head is held until Flush or ReadHead.
	WriteHead(*message.Request) error
	// ReadHead waits for the next head, interim or final. At the deadline it gives
	// os.ErrDeadlineExceeded and may be called again.
	ReadHead(r *message.Response, deadline time.Time) error
	// Tunnel makes what is written from now on part of the protocol that a 101 changed to. The
	// request must have been written whole.
	Tunnel()
	// Body is that of the final response.
	Body() message.BodyReader
	// SetProgress is for an exchange that moves in both directions at once: reads is the progress
	// of the response, writes that of the request's body. Nil for both ends that.
	SetProgress(reads, writes *netio.Progress)
	// Answered says whether anything of an answer has come.
	Answered() bool
	// Belongs takes the final response's head: the connection belongs to the client from then on if
	// that takes part in authenticating it.
	NoteAuthentication(h *message.Header, to *Owner)
	// Returns says whether the server may give a request back unprocessed, to be sent again
	// whatever its method is.
	MayReturn() bool
	// Reused says whether the connection carried exchanges before, so that it may have died
	// unnoticed.
	Reused() bool
	// State is what the connection speaks, and over how many subflows, at most a second ago.
	State(now time.Time) (mptcp.Transport, int)
	// Abort ends the exchange at once, from any goroutine; whoever waits in it gets an error.
	Abort()
	// Release ends the exchange, now. The connection is kept if that is sound. Nothing may follow.
	Release(now time.Time)
}

// conn is a connection to a server, which carries one HTTP/1 exchange at a time.
type conn struct {
	*http1.ClientConn
	link   *Link
	used   time.Time // when it was last put by
	reused bool
	owner  *Owner // nil: anybody may use it

	unrepeatable  bool   // the present request cannot be repeated
	segmentsKnown bool   // segments is known
	segments      uint32 // that had come when it was put by; see look
}

func (c *conn) MayReturn() bool { return false }

func (c *conn) Reused() bool { return c.reused }

func (c *conn) State(now time.Time) (mptcp.Transport, int) { return c.link.State(now) }

func (c *conn) NoteAuthentication(h *message.Header, to *Owner) {
	if isChallenge(h) || declaresAuthenticated(h) {
		c.owner = to
	}
}

func (c *conn) Release(now time.Time) {
	s := c.link.server
	c.segmentsKnown = false
	if c.unrepeatable && c.Reusable() { // the next one may be like it
		c.noteSegments()
	}
	switch {
	case !c.Reusable() || c.link.outdated(now):
		c.close()
	case c.owner != nil:
		s.putOwned(c, now)
	case c.link.info.Retired():
		c.close()
	case s.backend.options.SendProxy != 0: // a PROXY header is one client's
		c.close()
	default:
		s.putIdle(c, now)
	}
}

func (c *conn) close() {
	c.link.recordClose()
	_ = c.Close()
}
