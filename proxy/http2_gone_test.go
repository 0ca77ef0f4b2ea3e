package proxy_test

import (
	"bytes"
	"io"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/preread"
)

// framesOrigin is a server of HTTP/2 with these settings that hands each frame to handle.
func framesOrigin(t *testing.T, settings []xhttp2.Setting, handle func(fr *xhttp2.Framer,
	f xhttp2.Frame)) *proxytest.Origin {
	t.Helper()
	return plain.origin(t, func(c *proxytest.Conn) {
		if _, err := io.CopyN(io.Discard, c.R, int64(len(preread.Preface))); err != nil {
			return
		}
		fr := xhttp2.NewFramer(c.Conn, c.R)
		_ = fr.WriteSettings(settings...)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			handle(fr, f)
		}
	})
}

// answerFrames answers a request with a head alone.
func answerFrames(fr *xhttp2.Framer, id uint32) {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true,
		EndStream: true})
}

// A client that cancels its upload is noticed though nothing is read from it, because the server
// takes nothing.
func TestHTTP2ClientCancelsAnUploadThatIsHeldBack(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	o := framesOrigin(t, []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: 0}},
		func(fr *xhttp2.Framer, f xhttp2.Frame) {
			switch h := f.Header(); {
			case h.Type == xhttp2.FrameHeaders && h.Flags.Has(xhttp2.FlagHeadersEndStream):
				answerFrames(fr, h.StreamID)
			case h.Type == xhttp2.FrameHeaders:
				asked <- struct{}{}
			case h.Type == xhttp2.FrameRSTStream:
				gone <- struct{}{}
			}
		})
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
		backend: backend.Options{Protocol: backend.HTTP2}}, o)
	first := g.client()
	want(t, "status", first.Get("/settles").Status, 200) // and the server's window of 0 is known
	want(t, "end", g.log.Next().End, "ok")
	for name, size := range map[string]int{"at once": 10, "beside": 1 << 20} {
		s, err := begin(multiplexed(t, g.addr), "POST", "/", int64(size))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WriteBody(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		<-asked
		s.Release()
		wantSoon(t, "the reset of the server's stream, sent "+name, gone)
		l := g.log.Next()
		want(t, "end", l.End, "client_gone")
		want(t, "status", l.Status, 0)
	}
}

func TestHTTP2ClientCancelsAWebSocketBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	o, asked, gone := thinking(t, plain, "")
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
	s, err := multiplexed(t, g.addr).Open()
	if err != nil {
		t.Fatal(err)
	}
	err = s.WriteHead(webSocketTo("/think")) // waits for the settings that allow it
	if err == nil {
		err = s.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	s.Release()
	wantSoon(t, "the end of the server's connection", gone)
	want(t, "end", g.log.Next().End, "client_gone")
}
