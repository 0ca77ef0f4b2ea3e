package http2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
)

// What a header block says in pieces, or in frames of its own, means the same as in one.
func TestEmptyPiecesOfARequest(t *testing.T) {
	type seen struct {
		length  int64
		cookies string
	}
	got, release := make(chan seen, 1), make(chan struct{})
	defer close(release)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		var r message.Request
		if err := s.ReadRequest(&r, s.Began()); err != nil {
			t.Error(err)
		}
		got <- seen{r.ContentLength, strings.Join(allOf(&r.Header, message.Cookie), "|")}
		if len(allOf(&r.Header, message.UserAgent)) > 0 {
			<-release
			return
		}
		respond(s, 200, "ok")
	})
	p := connect(t, f.addr)
	id := uint32(1)
	for _, tt := range []struct {
		name   string
		fields []string
		end    bool // with the block
		want   seen
	}{
		{"crumbs", []string{"cookie", "a=1", "cookie", "b=2"}, true, seen{0, "a=1; b=2"}},
		{"an empty crumb in front", []string{"cookie", "", "cookie", "b=2"}, true, seen{0, "b=2"}},
		{"an empty crumb in between", []string{"cookie", "a=1", "cookie", "", "cookie", "b=2"}, true, seen{0, "a=1; b=2"}},
		{"an empty crumb behind", []string{"cookie", "a=1", "cookie", ""}, true, seen{0, "a=1"}},
		{"nothing but empty crumbs", []string{"cookie", "", "cookie", ""}, true, seen{0, ""}},
		{"length 0", []string{"content-length", "0"}, true, seen{0, ""}},
		{"length 0, ended by DATA", []string{"content-length", "0"}, false, seen{0, ""}},
		{"length 2", []string{"content-length", "2"}, false, seen{2, ""}},
	} {
		if err := p.open(id, tt.end, tt.fields...); err != nil {
			t.Fatal(err)
		}
		if !tt.end {
			if err := p.fr.WriteData(id, true, []byte("hi")[:tt.want.length]); err != nil {
				t.Fatal(err)
			}
		}
		if seen := <-got; seen != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, seen, tt.want)
		}
		p.next(http2.FrameHeaders)
		id += 2
	}
	// Data behind a length of 0 is as wrong as any that is too long.
	if err := p.open(id, false, "content-length", "0", "user-agent", "one that waits"); err != nil {
		t.Fatal(err)
	}
	<-got
	if err := p.fr.WriteData(id, true, []byte("x")); err != nil {
		t.Fatal(err)
	}
	// A stream whose request nobody read to its end may have been reset before, without an error.
	r := p.next(http2.FrameRSTStream)
	for r.StreamID != id {
		r = p.next(http2.FrameRSTStream)
	}
	if r.code != http2.ErrCodeProtocol {
		t.Errorf("stream %d was reset by %v, want %v", id, r.code, http2.ErrCodeProtocol)
	}
}

func allOf(h *message.Header, id message.ID) (values []string) {
	for i := h.Index(id, 0); i >= 0; i = h.Index(id, i+1) {
		_, _, v, _ := h.At(i)
		values = append(values, string(v))
	}
	return values
}

// A body in many small pieces leaves in few frames: a peer has to answer each.
func TestSmallPiecesShareFrames(t *testing.T) {
	const pieces = 10_000
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		var r message.Request
		var resp message.Response
		if err := s.ReadRequest(&r, s.Began()); err != nil {
			t.Error(err)
		}
		resp.Status, resp.ContentLength = 200, message.Unknown
		if err := s.WriteHead(&resp); err != nil {
			t.Error(err)
		}
		for i := range pieces {
			if err := s.WriteBody([]byte{byte('a' + i%26)}); err != nil {
				t.Error(err)
				return
			}
		}
		_ = s.End(nil)
	})
	p := connect(t, f.addr)
	if err := p.open(1, true); err != nil {
		t.Fatal(err)
	}
	p.next(http2.FrameHeaders)
	frames, size := 0, 0
	for last := false; !last; {
		d := p.next(http2.FrameData)
		for i := range len(d.data) {
			if want := byte('a' + (size+i)%26); d.data[i] != want {
				t.Fatalf("byte %d is %q, want %q", size+i, d.data[i], want)
			}
		}
		size += len(d.data)
		frames++
		last = d.Flags.Has(http2.FlagDataEndStream)
	}
	if size != pieces || frames > 20 {
		t.Errorf("got %d bytes in %d frames, want %d in at most 20", size, frames, pieces)
	}
}
