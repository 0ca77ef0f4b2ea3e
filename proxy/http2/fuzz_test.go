package http2

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/http1"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
)

// FuzzServerFrames sends any bytes behind a preface: the connection must end, and leave nothing.
func FuzzServerFrames(f *testing.F) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.buf)
	seed := func(write func()) {
		b.Reset()
		_ = fr.WriteSettings()
		write()
		f.Add(bytes.Clone(b.Bytes()))
	}
	seed(func() {})
	seed(func() {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...), EndHeaders: true})
		_ = fr.WriteData(1, false, []byte("hello"))
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block("x-t", "1"), EndHeaders: true, EndStream: true})
		_ = fr.WriteRSTStream(1, 0)
	})
	seed(func() {
		block := bytes.Clone(p.block(get...))
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:2], EndStream: true})
		_ = fr.WriteContinuation(1, true, block[2:])
		_ = fr.WritePing(false, [8]byte{})
		_ = fr.WriteGoAway(1, 0, nil)
		_ = fr.WriteWindowUpdate(0, 1)
		_ = fr.WritePriorityUpdate(1, "u=1, i")
		_ = fr.WriteDataPadded(1, true, nil, make([]byte, 3))
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		front := serve(t, ServerOptions{Limits: Limits{HeaderTime: time.Second}}, echo)
		nc, err := net.Dial("tcp", front.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(nc, preread.Preface)
		_, _ = nc.Write(in)
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
		select {
		case <-front.ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection did not end")
		}
	})
}

// FuzzClientFrames answers a request of ours with any bytes.
func FuzzClientFrames(f *testing.F) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.buf)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "103"), EndHeaders: true})
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "200", "content-length", "5"), EndHeaders: true})
	_ = fr.WriteData(1, false, []byte("hello"))
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block("x-t", "1"), EndHeaders: true, EndStream: true})
	f.Add(bytes.Clone(b.Bytes()))
	_ = fr.WriteGoAway(0, 0, nil)
	_ = fr.WriteRSTStream(1, 7)
	f.Add(bytes.Clone(b.Bytes()))
	f.Fuzz(func(t *testing.T, in []byte) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			_, _ = nc.Write(in)
			_ = nc.(*net.TCPConn).CloseWrite()
			_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.Copy(io.Discard, nc)
		}()
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		base, err := netio.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		c := NewClientConn(base, &ClientOptions{Limits: Limits{HeaderTime: time.Second}})
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			_ = c.Run()
			base.Close()
		}()
		res, err := exchange(c, request("GET", "/", 0), nil)
		if err == nil && (res.status < 200 || res.status > 599) {
			t.Errorf("status %d", res.status)
		}
		select {
		case <-ran:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection did not end")
		}
		<-done
	})
}

// FuzzRequestBlocks decodes any header block. What is accepted must be written by the encoder so
// that it decodes to the same again, and mean the same as the request of HTTP/1 that it becomes.
func FuzzRequestBlocks(f *testing.F) {
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.buf)
	f.Add(bytes.Clone(p.block(get...)), true)
	f.Add(bytes.Clone(p.block(append(append([]string{}, get...), "cookie", "a=1", "cookie", "b=2", "te", "trailers", "priority", "u=1")...)), true)
	f.Add(bytes.Clone(p.block(":method", "POST", ":scheme", "https", ":authority", "A.example:080", ":path", "/a/../b?c", "content-length", "7", "expect", "100-continue", "host", "a.example:80")), false)
	f.Add(bytes.Clone(p.block(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a", ":path", "/")), false)
	f.Add(bytes.Clone(p.block(":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*")), true)
	f.Fuzz(func(t *testing.T, block []byte, ended bool) {
		var r message.Request
		var one fields
		websocket, fault, err := decodeRequest(&one, block, &r, ended)
		if err != nil || fault != nil {
			return
		}
		r.Scheme = string(one.scheme)
		var protocol []byte
		if websocket {
			protocol = webSocketName
		}
		enc := newEncoder()
		for range 2 { // the second time, much of it is in the table
			again := encodeAndDecode(t, &enc, &r, protocol, ended && protocol == nil)
			if got, want := show(again), show(&r); got != want {
				t.Fatalf("the encoder changed it:\n%s\nfrom\n%s", got, want)
			}
		}
		head := http1.AppendRequest(nil, &r)
		var h1 message.Request
		if _, err := http1.ParseRequest(head, &h1, http1.Limits{HeaderBytes: 1 << 20, HeaderFields: 2000}); err != nil {
			t.Fatalf("%v in HTTP/1: %q", err, head)
		}
		h1.Version, h1.Scheme, h1.Target = r.Version, r.Scheme, r.Target
		if got, want := show(&h1), show(&r); got != want {
			t.Fatalf("HTTP/1 says\n%s\nof\n%s", got, want)
		}
	})
}

var fuzzLimits = Limits{HeaderBytes: 16 << 10, HeaderFields: 100}

func decodeRequest(f *fields, block []byte, r *message.Request, ended bool) (websocket bool, fault *message.Error, err error) {
	f.reset(requestBlock, &r.Header, &fuzzLimits)
	d := hpack.NewDecoder(4096, f.add)
	if _, err := d.Write(block); err != nil {
		return false, nil, err
	}
	if err := d.Close(); err != nil {
		return false, nil, err
	}
	f.finish()
	websocket, fault = f.request(r, ended)
	return websocket, fault, nil
}

// decoders are kept with their encoders, as on a connection.
var decoders = map[*encoder]*hpack.Decoder{}

func encodeAndDecode(t *testing.T, e *encoder, r *message.Request, protocol []byte, ended bool) *message.Request {
	t.Helper()
	var again message.Request
	var f fields
	f.reset(requestBlock, &again.Header, &Limits{HeaderBytes: 1 << 20, HeaderFields: 2000})
	d := decoders[e]
	if d == nil {
		clear(decoders)
		d = hpack.NewDecoder(4096, nil)
		decoders[e] = d
	}
	d.SetEmitFunc(f.add)
	sent := *r
	block := e.request(nil, &sent, protocol)
	if _, err := d.Write(block); err != nil {
		t.Fatalf("%v in %q", err, block)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	f.finish()
	_, fault := f.request(&again, ended)
	if fault != nil {
		t.Fatalf("%v of what was written for\n%s", fault, show(r))
	}
	again.Scheme, again.Target = r.Scheme, r.Target
	return &again
}

// show is a request as text, without what is random.
func show(r *message.Request) string {
	var b strings.Builder
	b.WriteString(strings.Join([]string{r.Version.String(), string(r.Method), string(r.Target), r.Scheme, string(r.Host), string(r.Port),
		string(r.Path), string(r.Query), string(r.Upgrade)}, "|"))
	for _, is := range []bool{r.HasQuery, r.EncodedSlash, r.Ambiguous, r.Expect, r.TrailersOK && r.Upgrade == nil} {
		if is {
			b.WriteString("|y")
		} else {
			b.WriteString("|n")
		}
	}
	length := r.ContentLength
	b.WriteString("|" + string(rune('a'+min(max(length, -1), 20)+1)) + "\n")
	for i := range r.Header.Len() {
		id, name, value, ok := r.Header.At(i)
		if !ok || id == message.SecWebSocketKey {
			continue
		}
		b.WriteString(strings.ToLower(string(name)) + ": " + string(value) + "\n")
	}
	return b.String()
}
