package proxy

import (
	"runtime"

	"mpgate/proxy/netio"
)

// turns bounds how many TLS handshakes compute at a time. One takes as long as ten requests and more, and who makes many at
// once, by accident or to do harm, would have everybody else wait for all of them: so one processor is left to the others,
// where there is more than one.
type turns chan struct{}

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)-1)) }

// handshaking is the connection that crypto/tls sits on. Until over is called, it has a turn whenever it does not wait for
// its peer: from the moment on that something has come.
type handshaking struct {
	*netio.Conn
	turns turns
	has   bool
	done  bool
}

func (h *handshaking) Read(p []byte) (int, error) {
	if h.done {
		return h.Conn.Read(p)
	}
	h.leave()
	n, err := h.Conn.Read(p)
	h.enter()
	return n, err
}

// Write waits for the peer where what it says does not fit into what is held back: certificates may be long.
func (h *handshaking) Write(p []byte) (int, error) {
	if h.done || !h.has || h.Conn.Holds(len(p)) {
		return h.Conn.Write(p)
	}
	h.leave()
	n, err := h.Conn.Write(p)
	h.enter()
	return n, err
}

func (h *handshaking) enter() {
	h.turns <- struct{}{}
	h.has = true
}

func (h *handshaking) leave() {
	if h.has {
		<-h.turns
		h.has = false
	}
}

// over ends the handshake, whatever came of it.
func (h *handshaking) over() {
	h.leave()
	h.done = true
}
