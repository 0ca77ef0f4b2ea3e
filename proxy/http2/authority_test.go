package http2

import (
	"testing"

	"golang.org/x/net/http2"
)

// :authority and Host are the same where they differ by the scheme's default port only, and an
// empty Host says nothing.
func TestAuthorityAndHost(t *testing.T) {
	f := serve(t, ServerOptions{}, echo)
	p := connect(t, f.addr)
	for i, e := range []struct {
		scheme, authority, host, status string
	}{
		{"http", "a.example:80", "a.example", "200"},
		{"http", "a.example", "A.example.:80", "200"},
		{"http", "a.example:", "a.example:80", "200"},
		{"https", "a.example", "a.example:443", "200"},
		{"http", "a.example", "", "200"},
		{"http", "a.example", "a.example", "200"},
		{"http", "a.example", "a.example:443", ""},
		{"https", "a.example", "a.example:80", ""},
		{"http", "a.example:8080", "a.example", ""},
		{"http", "a.example", "b.example:80", ""},
		{"http", "a.example", ":80", ""},
	} {
		if err := p.fr.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), EndStream: true, EndHeaders: true,
			BlockFragment: p.block(":method", "GET", ":scheme", e.scheme, ":authority", e.authority, ":path", "/", "host", e.host),
		}); err != nil {
			t.Fatal(err)
		}
		status := ""
		for got := false; !got; {
			select {
			case seen := <-p.frames:
				if got = seen.Type == http2.FrameRSTStream; got || seen.Type != http2.FrameHeaders {
					continue
				}
				if status, got = seen.fields[0].Value, true; status == "400" {
					status = ""
				}
			case <-p.dead:
				t.Fatal("the connection ended")
			}
		}
		if status != e.status {
			t.Errorf("%+v: got %q", e, status)
		}
	}
}
