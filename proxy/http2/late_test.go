package http2

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/preread"
)

// frames is a server that hands each frame to handle, until that fails or the client goes.
func frames(t *testing.T, handle func(p *peer, f http2.Frame) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if _, err := io.CopyN(io.Discard, nc, int64(len(preread.Preface))); err != nil {
			return
		}
		p := &peer{c: nc, fr: http2.NewFramer(nc, nc)}
		p.enc = hpack.NewEncoder(&p.buf)
		for err := p.fr.WriteSettings(); err == nil; {
			var f http2.Frame
			if f, err = p.fr.ReadFrame(); err == nil {
				err = handle(p, f)
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// What was on its way for streams that were cancelled is not an error of the server's, and takes
// nothing from the connection's window.
func TestDataForCancelledStreams(t *testing.T) {
	const bystander, first = 1, 3
	for name, tt := range map[string]struct {
		cancelled uint32 // streams
		pieces    int    // of DATA, for the first of them
	}{
		"many pieces":  {1, controlBudget + 100},
		"many streams": {300, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, frames(t, func(p *peer, f http2.Frame) error {
				id := f.Header().StreamID
				switch f.Header().Type {
				case http2.FrameHeaders:
					return p.head(id, false, ":status", "200")
				case http2.FrameRSTStream:
					if id != bystander+2*tt.cancelled {
						return nil
					}
					for range tt.pieces {
						if err := p.fr.WriteData(first, false, []byte("too late")); err != nil {
							return err
						}
					}
					return p.fr.WriteData(bystander, true, []byte("fine"))
				}
				return nil
			}), ClientOptions{})
			open := func() *ClientStream { return ask(t, c) }
			s := open()
			defer s.Release()
			for range tt.cancelled {
				open().Release()
			}
			if b, err := s.Body().Next(true); string(b) != "fine" {
				t.Fatalf("another stream got %q, %v", b, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if left := c.recvWindow + c.credit; left != c.recvTarget {
				t.Errorf("%d bytes of the connection's window are left, want %d", left, c.recvTarget)
			}
		})
	}
}
