package http2

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
)

// A place that was reserved before Close can still be used, and the connection ends after it.
func TestReservedPlaceOutlivesClose(t *testing.T) {
	c := dial(t, origin(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }), ClientOptions{})
	if _, err := exchange(c, request("GET", "/", 0), nil); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := c.Open(); err != ErrClosed {
		t.Errorf("Open gives %v, want %v", err, ErrClosed)
	}
	var r message.Response
	if err := errors.Join(s.WriteHead(request("POST", "/", 2)), s.WriteBody([]byte("hi")), s.End(nil), s.ReadHead(&r, time.Now().Add(generous))); err != nil || r.Status != 204 {
		t.Errorf("got %d, %v", r.Status, err)
	}
	s.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.drained() {
		t.Error("the connection goes on")
	}
}

// A request whose head has not left when the server closes was not processed.
func TestUnsentRequestsComeBack(t *testing.T) {
	settled, end := make(chan bool, 1), make(chan bool)
	c := dial(t, frames(t, func(p *peer, f http2.Frame) error {
		if f, ok := f.(*http2.SettingsFrame); ok && f.IsAck() {
			settled <- true
			<-end
			return errAborted
		}
		return nil
	}), ClientOptions{})
	<-settled
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.WriteHead(request("POST", "/", 2)); err != nil {
		t.Fatal(err)
	}
	close(end)
	if !proxytest.Within(proxytest.Patience, func() bool { return !c.Usable() }) {
		t.Fatal("the connection goes on")
	}
	var r message.Response
	if err := s.ReadHead(&r, time.Now().Add(generous)); !errors.Is(err, ErrNotProcessed) {
		t.Errorf("got %v, want %v", err, ErrNotProcessed)
	}
	if err := s.WriteBody([]byte("hi")); !errors.Is(err, ErrNotProcessed) {
		t.Errorf("got %v, want %v", err, ErrNotProcessed)
	}
}

// A refused stream is told from a connection that ends.
func TestRefusedIsNotProcessed(t *testing.T) {
	c := dial(t, frames(t, func(p *peer, f http2.Frame) error {
		if h, ok := f.(*http2.HeadersFrame); ok {
			return p.fr.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
		}
		return nil
	}), ClientOptions{})
	if _, err := exchange(c, request("GET", "/", 0), nil); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotProcessed) {
		t.Errorf("got %v, want %v", err, ErrRefused)
	}
	if !c.Usable() {
		t.Error("the connection ended")
	}
}

// A complete response counts, also if the server resets its stream before it is read.
func TestCompleteResponseOutlivesReset(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeProtocol, http2.ErrCodeCancel} {
		reset := make(chan bool, 1)
		c := dial(t, frames(t, func(p *peer, f http2.Frame) error {
			switch f := f.(type) {
			case *http2.HeadersFrame:
				var b bytes.Buffer
				_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "400"})
				return errors.Join(
					p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: b.Bytes(), EndHeaders: true}),
					p.fr.WriteData(f.StreamID, true, []byte("why")),
					p.fr.WriteRSTStream(f.StreamID, code),
					p.fr.WritePing(false, [8]byte{1}),
				)
			case *http2.PingFrame:
				if f.IsAck() {
					reset <- true
				}
			}
			return nil
		}), ClientOptions{})
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.End(nil)); err != nil {
			t.Fatal(err)
		}
		<-reset
		var r message.Response
		err = s.ReadHead(&r, time.Now().Add(generous))
		var body []byte
		for err == nil {
			var p []byte
			p, err = s.Body().Next(true)
			body = append(body, p...)
		}
		if err != io.EOF || r.Status != 400 || string(body) != "why" {
			t.Errorf("%v: got %d %q, %v", code, r.Status, body, err)
		}
		s.Release()
	}
}
