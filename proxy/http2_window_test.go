package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/preread"
)

// The end of a response needs no window (RFC 9113 section 6.9): one without a body is over at once
// for a client that grants nothing.
func TestEmptyResponsesNeedNoWindow(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if r.Target == "/chunked" {
				c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
			} else {
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(proxytest.Patience / 2))
	fr := xhttp2.NewFramer(nc, nc)
	_, err = io.WriteString(nc, preread.Preface)
	err = errors.Join(err, fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0}))
	if err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i, path := range []string{"/length", "/chunked"} {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", testHost},
			{":path", path}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		id := uint32(2*i + 1)
		if err := fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(),
			EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		for ended := false; !ended; {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatalf("%s: %v before the end of the stream", path, err)
			}
			h := f.Header()
			ended = h.StreamID == id && (h.Type == xhttp2.FrameHeaders || h.Type == xhttp2.FrameData) &&
				h.Flags.Has(xhttp2.FlagDataEndStream)
		}
		want(t, "end of "+path, g.log.Next().End, "ok")
	}
}
