package proxy

import (
	"encoding/binary"
	"runtime"

	"mpgate/proxy/netio"
)

// slots limits the TLS handshakes that compute at the same time. One takes as long as ten requests
// or more, so a burst of handshakes would delay all other clients: one processor, if there is more
// than one, remains free for these.
type slots chan struct{}

func newSlots() slots { return make(slots, max(1, runtime.GOMAXPROCS(0)-1)) }

// handshakeConn is the connection below crypto/tls. Until finish is called, it holds a slot
// whenever it does not wait for its peer.
type handshakeConn struct {
	*netio.Conn
	slots     slots
	holdsSlot bool
	finished  bool
	ticket    []byte // see holdTicket
}

func (h *handshakeConn) Read(p []byte) (int, error) {
	if h.finished {
		return h.Conn.Read(p)
	}
	h.release()
	n, err := h.Conn.Read(p)
	h.acquire()
	return n, err
}

// Write releases the slot if p does not fit in the buffer, so that the write may wait for the peer:
// certificates may be long.
func (h *handshakeConn) Write(p []byte) (int, error) {
	if h.finished {
		return h.Conn.Write(p)
	}
	whole := len(p)
	if h.ticket == nil {
		p = h.holdTicket(p)
	} else { // an alert: records are numbered, so it must follow the ticket
		p = append(h.ticket, p...)
		h.ticket = nil
	}
	if !h.holdsSlot || h.Conn.Holds(len(p)) {
		_, err := h.Conn.Write(p)
		return whole, err
	}
	h.release()
	_, err := h.Conn.Write(p)
	h.acquire()
	return whole, err
}

// holdTicket keeps back the session ticket at the end of a server's first flight of TLS 1.3, until
// the client's Finished has come. crypto/tls sends it early (RFC 8446 section 4.6.1 allows both).
// Then no data would follow the Finished and carry its acknowledgement, which the kernel delays by
// 40 ms; and a client without TCP_NODELAY sends no request before that. The ticket is the last
// record if the one before it has the length of a Finished.
func (h *handshakeConn) holdTicket(flight []byte) []byte {
	before := 0 // the size of the previous record
	for i := 0; len(flight)-i >= recordHeader; {
		n := recordHeader + int(binary.BigEndian.Uint16(flight[i+3:]))
		if i+n == len(flight) && flight[i] == applicationData && (before == finished256 || before == finished384) {
			h.ticket = append([]byte(nil), flight[i:]...)
			return flight[:i]
		}
		before = n
		i += n
	}
	return flight
}

const (
	recordHeader    = 5
	applicationData = 23 // the outer type of encrypted records
	// A record with a Finished: its header, that of the message, a hash, the type inside and the
	// tag.
	finished256 = recordHeader + 4 + 32 + 1 + 16
	finished384 = recordHeader + 4 + 48 + 1 + 16
)

func (h *handshakeConn) acquire() {
	h.slots <- struct{}{}
	h.holdsSlot = true
}

func (h *handshakeConn) release() {
	if h.holdsSlot {
		<-h.slots
		h.holdsSlot = false
	}
}

// finish ends the handshake, also after an error.
func (h *handshakeConn) finish() {
	h.release()
	h.finished = true
	if h.ticket != nil {
		_, _ = h.Conn.Write(h.ticket) // held; it is sent with the next data, or before a wait
		h.ticket = nil
	} else if h.Conn.Held() == 0 {
		h.Conn.Acknowledge()
	}
}
