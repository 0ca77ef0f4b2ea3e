package http2

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/preread"
)

// Floods from a server, once it has answered with a head: the connection to it must end.
func TestFloodsFromServers(t *testing.T) {
	for name, send := range map[string]func(p *peer, i int) error{
		"SETTINGS":        func(p *peer, i int) error { return p.fr.WriteSettings() },
		"PING":            func(p *peer, i int) error { return p.fr.WritePing(false, [8]byte{}) },
		"PING answers":    func(p *peer, i int) error { return p.fr.WritePing(true, [8]byte{pingSpeed}) },
		"GOAWAY":          func(p *peer, i int) error { return p.fr.WriteGoAway(1, http2.ErrCodeNo, nil) },
		"empty DATA":      func(p *peer, i int) error { return p.fr.WriteData(1, false, nil) },
		"WINDOW_UPDATE":   func(p *peer, i int) error { return p.fr.WriteWindowUpdate(0, 1) },
		"PRIORITY":        func(p *peer, i int) error { return p.fr.WritePriority(1, http2.PriorityParam{}) },
		"unknown frames":  func(p *peer, i int) error { return p.fr.WriteRawFrame(0x77, 0, 0, nil) },
		"resets":          func(p *peer, i int) error { return p.fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		"trailers":        func(p *peer, i int) error { return p.head(1, true, "x-t", "1") },
		"interim answers": func(p *peer, i int) error { return p.head(3, false, ":status", "103") },
		"CONTINUATION": func(p *peer, i int) error {
			if i == 0 {
				return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block(":status", "200")})
			}
			return p.fr.WriteContinuation(3, false, p.block("x-a", "b"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			sent := make(chan int, 1)
			go func() { sent <- flood(ln, send) }()
			c := dial(t, ln.Addr().String(), ClientOptions{})
			results := make(chan error, 2)
			for range 2 { // streams 1 and 3
				go func() { _, err := exchange(c, request("GET", "/", 0), nil); results <- err }()
			}
			if n := <-sent; n == floodMost {
				t.Errorf("nothing stopped the flood")
			} else {
				t.Logf("it ended after %d", n)
			}
			calmed := false
			for range 2 {
				var end *ConnError
				if err := <-results; errors.As(err, &end) && end.Code == http2.ErrCodeEnhanceYourCalm {
					calmed = true
				} else if err == nil && name != "trailers" {
					t.Error("an exchange ended in order")
				}
			}
			if c.Usable() {
				t.Error("the connection goes on")
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			var end *ConnError
			// Both streams may have ended before.
			if !calmed && (!errors.As(c.err, &end) || end.Code != http2.ErrCodeEnhanceYourCalm && (name != "trailers" || end.Code != http2.ErrCodeStreamClosed)) {
				t.Errorf("the connection ended with %v, want ENHANCE_YOUR_CALM", c.err)
			}
		})
	}
}

const floodMost = 200000

// flood answers the first of two requests with a head, and sends until it cannot.
func flood(ln net.Listener, send func(p *peer, i int) error) (sent int) {
	nc, err := ln.Accept()
	if err != nil {
		return 0
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.CopyN(io.Discard, nc, int64(len(preread.Preface))); err != nil {
		return 0
	}
	p := &peer{c: nc, fr: http2.NewFramer(nc, nc)}
	p.fr.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.buf)
	for asked := 0; asked < 2; {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return 0
		}
		if f.Header().Type == http2.FrameHeaders {
			asked++
		}
	}
	go func() { _, _ = io.Copy(io.Discard, nc) }()
	if p.fr.WriteSettings() != nil || p.head(1, false, ":status", "200") != nil {
		return 0
	}
	for sent < floodMost && send(p, sent) == nil {
		sent++
	}
	return sent
}

// head sends a header block.
func (p *peer) head(id uint32, end bool, fields ...string) error {
	return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}
