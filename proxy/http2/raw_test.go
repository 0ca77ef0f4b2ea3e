package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/preread"
)

// peer is a client that sends what it likes.
type peer struct {
	t    testing.TB
	c    net.Conn
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	dead chan struct{} // closed when the reader has seen the end
	code http2.ErrCode // of the GOAWAY, once dead
	gone bool          // a GOAWAY came

	frames chan frameSeen
}

type frameSeen struct {
	http2.FrameHeader
	code   http2.ErrCode
	last   uint32 // stream, of a GOAWAY
	grown  uint32 // by a WINDOW_UPDATE
	fields []hpack.HeaderField
	data   string
}

// connect begins a connection; it reads all that comes in the background.
func connect(t testing.TB, addr string, settings ...http2.Setting) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, c: nc, fr: http2.NewFramer(nc, nc), dead: make(chan struct{}), frames: make(chan frameSeen, 1<<16)}
	p.fr.AllowIllegalWrites = true
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.buf)
	if _, err := nc.Write([]byte(preread.Preface)); err != nil {
		t.Fatal(err)
	}
	if err := p.fr.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	go p.read()
	t.Cleanup(func() { nc.Close(); <-p.dead })
	return p
}

func (p *peer) read() {
	defer close(p.dead)
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return
		}
		seen := frameSeen{FrameHeader: f.Header()}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			p.code, p.gone = f.ErrCode, true
			seen.code, seen.last = f.ErrCode, f.LastStreamID
		case *http2.WindowUpdateFrame:
			seen.grown = f.Increment
		case *http2.RSTStreamFrame:
			seen.code = f.ErrCode
		case *http2.MetaHeadersFrame:
			seen.fields = f.Fields
		case *http2.DataFrame:
			seen.data = string(f.Data())
		case *http2.PingFrame:
			seen.data = string(f.Data[:])
		}
		select {
		case p.frames <- seen:
		default: // a flood
		}
	}
}

// next gives the next frame of a type.
func (p *peer) next(want http2.FrameType) frameSeen {
	p.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case f := <-p.frames:
			if f.Type == want {
				return f
			}
		case <-p.dead:
			select {
			case f := <-p.frames:
				if f.Type == want {
					return f
				}
				continue
			default:
			}
			p.t.Fatalf("the connection ended while waiting for %v", want)
		case <-late:
			p.t.Fatalf("no %v came", want)
		}
	}
}

// block encodes fields given as name, value, name, value…
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.buf.Bytes()
}

var get = []string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}

// open sends a request; more is added to the fields of a GET.
func (p *peer) open(id uint32, end bool, more ...string) error {
	return p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: p.block(append(append([]string{}, get...), more...)...), EndStream: end, EndHeaders: true,
	})
}

// ended waits for the end of the connection, and gives the code of its GOAWAY.
func (p *peer) ended() (http2.ErrCode, error) {
	select {
	case <-p.dead:
	case <-time.After(20 * time.Second):
		return 0, errors.New("the connection is still open")
	}
	if !p.gone {
		return 0, io.EOF
	}
	return p.code, nil
}
