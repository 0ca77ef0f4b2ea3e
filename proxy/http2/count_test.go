package http2

import (
	"errors"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
)

// A stream that has ended in both directions no longer counts against the limit (RFC 9113 section
// 5.1.2), though its handler has yet to return. The handlers are bounded all the same.
func TestEndedStreamsMakeRoomBeforeTheirHandlersReturn(t *testing.T) {
	for name, body := range map[string]string{"without a body": "", "with a body": "abc"} {
		t.Run(name, func(t *testing.T) {
			const most = 2
			release := make(chan bool)
			goOn := sync.OnceFunc(func() { close(release) })
			defer goOn()
			f := serve(t, ServerOptions{Streams: most}, func(s *ServerStream) {
				answer(200, body)(s)
				<-release
			})
			p := connect(t, f.addr)
			end := func(id uint32) {
				t.Helper()
				for {
					switch seen := <-p.frames; {
					case seen.Type == http2.FrameRSTStream:
						t.Fatalf("stream %d was reset with %v", seen.StreamID, seen.code)
					case seen.StreamID == id && seen.Flags.Has(http2.FlagDataEndStream):
						return
					}
				}
			}
			id := uint32(1)
			for range 2 * most { // handlers that hang
				if err := p.open(id, true); err != nil {
					t.Fatal(err)
				}
				end(id)
				id += 2
			}
			if err := p.open(id, true); err != nil {
				t.Fatal(err)
			}
			server := <-f.conns
			if !proxytest.Within(proxytest.Patience, func() bool {
				server.mu.Lock()
				defer server.mu.Unlock()
				return server.backlog == 1 && server.running == 2*most && server.open == 1
			}) {
				t.Error("one more request does not wait for a handler")
			}
			goOn()
			end(id)
		})
	}
}

// Streams that were reset count no longer either, by whichever end, and the count comes back to
// nothing.
func TestCountOfOpenStreams(t *testing.T) {
	release := make(chan bool)
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	f := serve(t, ServerOptions{Streams: 1}, func(s *ServerStream) { <-release })
	p := connect(t, f.addr)
	for id := uint32(1); id < 9; id += 2 {
		if err := errors.Join(p.open(id, false), p.fr.WriteRSTStream(id, http2.ErrCodeCancel)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.open(9, false); err != nil {
		t.Fatal(err)
	}
	if err := p.open(11, false); err != nil {
		t.Fatal(err)
	}
	if r := p.next(http2.FrameRSTStream); r.StreamID != 11 || r.code != http2.ErrCodeRefusedStream {
		t.Errorf("stream %d was reset with %v, want that beyond the limit to be refused", r.StreamID, r.code)
	}
	goOn()
	server := <-f.conns
	if !proxytest.Within(proxytest.Patience, func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.streams) == 0
	}) {
		t.Fatal("streams are left")
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.open != 0 || server.ended != 0 {
		t.Errorf("%d streams count as open, %d as ended", server.open, server.ended)
	}
}

// Towards a server likewise: an answer that came whole and is read slowly takes nobody's place.
func TestAnswersThatCameWholeTakeNoPlace(t *testing.T) {
	f := serve(t, ServerOptions{Streams: 1}, answer(200, "whole"))
	c := dial(t, f.addr, ClientOptions{})
	open := func() *ClientStream {
		t.Helper()
		s := ask(t, c)
		if !proxytest.Within(proxytest.Patience, func() bool { return s.body.whole() }) {
			t.Fatal("the answer does not come whole")
		}
		return s
	}
	first := open()
	if now, most := c.Streams(); now != 0 || most != 1 {
		t.Errorf("%d of %d streams are counted, want 0 of 1", now, most)
	}
	second := open()
	for _, s := range []*ClientStream{first, second} {
		if b, err := s.Body().Next(true); string(b) != "whole" {
			t.Errorf("%q, %v", b, err)
		}
		s.Release()
	}
}

// whole says whether all of the body has come.
func (b *body) whole() bool {
	b.conn.mu.Lock()
	defer b.conn.mu.Unlock()
	return b.recvEnd
}
