package proxy

import (
	"errors"
	"os"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"mpgate/proxy/http2"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

// detectHTTP2 reports whether the client uses HTTP/2: by ALPN, or without TLS by its first bytes,
// if the listener allows that.
func (c *conn) detectHTTP2() (bool, error) {
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
			if c.awaitsArrived(err) {
				c.base.ReadBy(time.Now().Add(arrivedTime))
				continue
			}
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

// errPreface means that the first bytes are valid neither in HTTP/1 nor in HTTP/2.
var errPreface = errors.New("an invalid connection preface")

// refusePreface ends the connection of a client that may use HTTP/2, with an empty SETTINGS frame
// and a GOAWAY with PROTOCOL_ERROR (RFC 9113 section 3.4).
func (c *conn) refusePreface() {
	frames := [...]byte{
		0, 0, 0, byte(xhttp2.FrameSettings), 0, 0, 0, 0, 0,
		0, 0, 8, byte(xhttp2.FrameGoAway), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(xhttp2.ErrCodeProtocol),
	}
	_, _ = c.base.Write(frames[:])
	if c.base.CloseWrite() == nil {
		_ = c.base.Drop(linger)
	}
}

// serveHTTP2 serves the connection until it ends.
func (c *conn) serveHTTP2() {
	if c.rejectTCP() { // by now a fallback is visible
		return
	}
	c.setBusy()
	h := http2.NewServerConn(c.stream, nil, &c.limits.http2, c.exchangeHTTP2)
	c.mux.Store(&mux{http: h, open: map[*exchange]*Lease{}})
	if c.ending() {
		h.Shutdown()
	}
	c.end = muxEnd(h.Serve(), c.ending())
}

// exchangeHTTP2 serves one stream. Each stream has its own goroutine.
func (c *conn) exchangeHTTP2(s *http2.ServerStream) {
	x := exchanges.Get().(*exchange)
	x.begin(&c.client, s, s.Began())
	x.run()
	x.finish()
	x.recycle()
}

// muxEnd returns the outcome of an HTTP/2 connection that ended with err.
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

// forwardReset resets the client's stream with the code of a server's reset, if both use HTTP/2. It
// reports whether that replaces an answer: CANCEL is more exact than a 502. A gRPC server sends it
// when the client's deadline has passed.
func (x *exchange) forwardReset(err error) bool {
	var reset *http2.ResetError
	var client *clientError
	if !x.down.Multiplexed() || errors.As(err, &client) || x.clientGone.Load() {
		return false
	}
	if !errors.As(err, &reset) || reset.Code == xhttp2.ErrCodeNo {
		return false
	}
	x.down.ResetAs(uint32(reset.Code))
	if reset.Code != xhttp2.ErrCodeCancel || x.down.HeadSent() {
		return false
	}
	x.rec.End = telemetry.EndBackendReset
	return true
}
