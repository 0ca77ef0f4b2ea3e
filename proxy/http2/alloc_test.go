package http2

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/message"
)

// loop is a client that sends the same request again and again and reads until its response has
// ended, without a byte of memory.
type loop struct {
	c    net.Conn
	send []byte
	in   [4096]byte
	have []byte
	id   uint32
}

func newLoop(t testing.TB, addr string) *loop {
	t.Helper()
	p := &peer{t: t}
	p.enc = hpack.NewEncoder(&p.buf)
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_, _ = io.WriteString(&out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	_ = fr.WriteSettings()
	_ = fr.WriteSettingsAck()
	_ = fr.WriteWindowUpdate(0, 1<<30)
	l := &loop{c: nc, id: 1}
	ask := func() {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: l.id, BlockFragment: p.block(get...), EndStream: true, EndHeaders: true})
	}
	ask()
	if _, err := nc.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	l.drain(t)
	out.Reset()
	ask() // all of its fields are in the table by now
	l.send = out.Bytes()
	return l
}

// once makes one exchange.
func (l *loop) once(t testing.TB) {
	l.id += 2
	id := l.id
	l.send[5], l.send[6], l.send[7], l.send[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
	if _, err := l.c.Write(l.send); err != nil {
		t.Fatal(err)
	}
	l.drain(t)
}

// drain reads frames up to one with END_STREAM.
func (l *loop) drain(t testing.TB) {
	for {
		for len(l.have) >= frameHeaderLen {
			n := frameHeaderLen + int(l.have[0])<<16 + int(l.have[1])<<8 + int(l.have[2])
			if len(l.have) < n {
				break
			}
			end := l.have[4]&1 != 0 && l.have[3] <= 1
			l.have = l.have[n:]
			if end {
				return
			}
		}
		k := copy(l.in[:], l.have)
		n, err := l.c.Read(l.in[k:])
		if err != nil {
			t.Fatal(err)
		}
		l.have = l.in[:k+n]
	}
}

// An exchange whose fields are in the tables allocates nothing on the server's side.
func TestServerAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	reply := okResponse()
	f := serve(t, ServerOptions{}, func(s *ServerStream) { reply(s) })
	l := newLoop(t, f.addr)
	for range 100 {
		l.once(t)
	}
	const rounds = 2000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range rounds {
		l.once(t)
	}
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.1 {
		t.Errorf("%.2f allocations an exchange, want none", per)
	}
}

func BenchmarkServer(b *testing.B) {
	reply := okResponse()
	f := serve(b, ServerOptions{}, func(s *ServerStream) { reply(s) })
	l := newLoop(b, f.addr)
	b.ReportAllocs()
	for b.Loop() {
		l.once(b)
	}
}

// okResponse answers without allocating.
func okResponse() func(*ServerStream) {
	requests := sync.Pool{New: func() any { return new(message.Request) }}
	body := make([]byte, 1024)
	resp := message.Response{Status: 200, ContentLength: 1024}
	resp.Header.AddString(message.ContentType, "text/plain")
	resp.Header.AddString(message.Server, "test")
	return func(s *ServerStream) {
		r := requests.Get().(*message.Request)
		if s.ReadRequest(r, time.Time{}) == nil && s.WriteHead(&resp) == nil && s.WriteBody(body) == nil {
			_ = s.End(nil)
		}
		r.Reset()
		requests.Put(r)
	}
}
