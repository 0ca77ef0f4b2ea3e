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

// A client that stalls within a header block loses its connection, and the tunnels in it end with
// that.
func TestHTTP2TunnelEndsWithAClientThatStalls(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, webSocketEcho(func(key string) string {
		return switchingFor(key)
	}))
	g := start(t, setup{
		mode: plain, listener: proxy.ListenerOptions{H2C: true},
		options: proxy.Options{Limits: proxy.Limits{HeaderTime: 2 * time.Second}},
	}, o)
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(proxytest.Patience))
	fr := xhttp2.NewFramer(nc, nc)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", testHost},
		{":path", "/ws"}, {"sec-websocket-version", "13"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, err = io.WriteString(nc, preread.Preface)
	err = errors.Join(err, fr.WriteSettings(), fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1,
		BlockFragment: block.Bytes(), EndHeaders: true}))
	for err == nil {
		var f xhttp2.Frame
		if f, err = fr.ReadFrame(); err == nil && f.Header().Type == xhttp2.FrameHeaders {
			break // of the answer
		}
	}
	if err = errors.Join(err, fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3,
		BlockFragment: []byte{0x82}})); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, nc)
	want(t, "end", g.log.Next().End, "client_timeout")
}
