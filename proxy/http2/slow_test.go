package http2

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
)

// A connection that ended because its time was over does not look to its streams like the end of a
// wait of theirs, which they would begin again.
func TestStreamsOfASlowPeerAreNotAtTheirDeadline(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		result := make(chan error, 1)
		f := serve(t, ServerOptions{Limits: Limits{HeaderTime: shortly}}, reading(result))
		p := connect(t, f.addr)
		if err := p.open(1, false); err != nil {
			t.Fatal(err)
		}
		// And no CONTINUATION.
		if err := p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block(get...)}); err != nil {
			t.Fatal(err)
		}
		if err := within(t, result); err != ErrTooSlow {
			t.Errorf("the stream ended with %v, want %v", err, ErrTooSlow)
		}
		if err := within(t, f.ended); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection ended with %v, want %v", err, os.ErrDeadlineExceeded)
		}
	})
	t.Run("server", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c := dial(t, ln.Addr().String(), ClientOptions{Limits: Limits{HeaderTime: shortly}})
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.End(nil)); err != nil {
			t.Fatal(err)
		}
		var r message.Response
		if err := s.ReadHead(&r, time.Now().Add(generous)); err != ErrTooSlow {
			t.Errorf("the head ended with %v, want %v", err, ErrTooSlow)
		}
	})
}
