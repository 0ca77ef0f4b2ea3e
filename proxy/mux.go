package proxy

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"mpgate/proxy/http2"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/task"
	"mpgate/telemetry"
)

// mux is a connection that carries many exchanges at a time.
type mux struct {
	http  *http2.ServerConn
	holds atomic.Int64 // connections to servers that its exchanges use

	mu   sync.Mutex // guards open
	open map[*exchange]*Lease
}

// multiplexes gives the connection's mux, nil where it has none, from any goroutine.
func (c *conn) multiplexes() *mux { return c.muxed.Load() }

func (m *mux) take(x *exchange, l *Lease) {
	m.mu.Lock()
	m.open[x] = l
	m.mu.Unlock()
}

func (m *mux) giveBack(x *exchange) {
	m.mu.Lock()
	delete(m.open, x)
	m.mu.Unlock()
}

// under says whether an exchange lasts by one of the leases.
func (m *mux) under(leases map[*Lease]bool) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.open {
		if leases[l] {
			return true
		}
	}
	return false
}

// abort ends the exchanges that last by one of the leases.
func (m *mux) abort(leases map[*Lease]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for x, l := range m.open {
		if !leases[l] {
			continue
		}
		x.cut.Store(true)
		if x.conn.tunnels.farewell(x) {
			task.AfterFunc(farewellTime, "exchange: end of its farewell", func() { m.cut(x, l) })
			continue
		}
		x.down.Abort()
		x.conn.tunnels.cut(x)
	}
}

// cut ends an exchange that still lasts by a lease.
func (m *mux) cut(x *exchange, l *Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[x] == l {
		x.down.Abort()
		x.conn.tunnels.cut(x)
	}
}

// speaksHTTP2 says whether the client does: by ALPN, or without TLS by what it begins with, as far
// as the listener allows that.
func (c *conn) speaksHTTP2() (bool, error) {
	if c.tls != nil {
		return c.tls.state.NegotiatedProtocol == "h2", nil
	}
	v := c.listener.view.Load()
	if !v.H2C {
		return false, nil
	}
	var ahead netio.Buffer
	defer ahead.Release()
	c.base.ReadBy(c.firstDeadline())
	for {
		if err := c.base.Fill(&ahead); err != nil {
			return false, err
		}
		p, err := preread.Detect(ahead.Bytes())
		if err != nil {
			continue // a part of the preface
		}
		if p == preread.HTTP1 && preread.BadPreface(ahead.Bytes()) {
			return false, errPreface
		}
		c.base.Unread(&ahead)
		if p != preread.HTTP2 && v.NoH1 {
			return false, errOnlyHTTP2
		}
		return p == preread.HTTP2, nil
	}
}

var errOnlyHTTP2 = errors.New("the client does not use HTTP/2, which the listener requires")

// errPreface is a client that begins neither as in HTTP/1 nor as in HTTP/2.
var errPreface = errors.New("an invalid connection preface")

// refusePreface ends the connection of a client that may use HTTP/2: with an empty SETTINGS frame,
// which comes first, and a GOAWAY that says PROTOCOL_ERROR (RFC 9113 section 3.4).
func (c *conn) refusePreface() {
	frames := [...]byte{
		0, 0, 0, byte(xhttp2.FrameSettings), 0, 0, 0, 0, 0,
		0, 0, 8, byte(xhttp2.FrameGoAway), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(xhttp2.ErrCodeProtocol),
	}
	_, _ = c.base.Write(frames[:])
	if c.base.CloseWrite() == nil {
		_ = c.base.SetReadDeadline(time.Now().Add(lingerTime))
		_ = c.base.Drop(lingerBytes)
	}
}

// serveHTTP2 serves the connection until it ends.
func (c *conn) serveHTTP2() {
	if c.refusesTCP() { // by now a fallback has shown
		return
	}
	c.setBusy()
	m := &mux{open: map[*exchange]*Lease{}}
	m.http = http2.NewServerConn(c.stream, nil, &c.limits.http2, c.exchangeHTTP2)
	c.mux = m
	c.muxed.Store(m)
	if c.ending() {
		m.http.Shutdown()
	}
	c.end = muxEnd(m.http.Serve(), c.ending())
}

// exchangeHTTP2 serves one stream, in a goroutine of its own.
func (c *conn) exchangeHTTP2(s *http2.ServerStream) {
	x := exchanges.Get().(*exchange)
	x.begin(c, s, s.Began())
	x.run()
	x.finish()
	if !x.panicked {
		x.reset()
		exchanges.Put(x)
	}
}

// muxEnd says what it means that a connection of HTTP/2 ended so.
func muxEnd(err error, drained bool) telemetry.ConnEnd {
	var fault *http2.ConnError
	switch {
	case err == nil && drained:
		return telemetry.ConnDrain
	case err == nil:
		return telemetry.ConnOK
	case errors.As(err, &fault):
		switch fault.Code {
		case xhttp2.ErrCodeEnhanceYourCalm:
			return telemetry.ConnLimit
		case xhttp2.ErrCodeInternal:
			return telemetry.ConnInternal
		}
		return telemetry.ConnBadRequest
	case errors.Is(err, os.ErrDeadlineExceeded):
		return telemetry.ConnTimeout
	}
	return telemetry.ConnReset
}

// passReset has a stream that a server has reset end with the server's code, where the client uses
// HTTP/2 too, and says whether that is all the client is to get: one that is told CANCEL knows more
// than one that gets a 502. A gRPC server does so when the deadline is over that the client has
// set.
func (x *exchange) passReset(err error) bool {
	var reset *http2.ResetError
	var client *clientError
	if !x.down.Multiplexed() || errors.As(err, &client) || !errors.As(err, &reset) || reset.Code == xhttp2.ErrCodeNo || x.gone.Load() {
		return false
	}
	x.down.ResetAs(uint32(reset.Code))
	if reset.Code != xhttp2.ErrCodeCancel || x.down.HeadSent() {
		return false
	}
	x.rec.End = telemetry.EndBackendReset
	return true
}
