package http1

import (
	"io"
	"testing"
	"time"

	"mpgate/proxy/message"
)

// A request on its way through both codecs, with its response and the bodies, allocates nothing.
func TestExchangeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range []struct{ name, request, response string }{
		{"lengths", browserRequest, nginxSuccess + string(make([]byte, 1024))},
		{"chunked", "POST / HTTP/1.1\r\nHost: X.example.\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-B\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			front, client := pair(t)
			back, origin := pair(t)
			server, upstream := NewServerConn(front, &testServer), NewClientConn(back, &testClient)
			defer server.Release()
			defer upstream.in.Release()
			var req message.Request
			var resp message.Response
			ask, answer, sink := []byte(c.request), []byte(c.response), make([]byte, 64<<10)
			if n := testing.AllocsPerRun(100, func() {
				req.Reset()
				resp.Reset()
				write(t, client, ask)
				check(t, server.Wait(time.Now().Add(time.Hour)))
				check(t, server.ReadRequest(&req, time.Now()))
				check(t, upstream.WriteHead(&req))
				check(t, pass(server.Body(), upstream))
				check(t, upstream.End(&req.Trailer))
				check(t, upstream.Flush())
				read(t, origin, sink)
				write(t, origin, answer)
				check(t, upstream.ReadHead(&resp, time.Now().Add(time.Hour)))
				check(t, server.WriteHead(&resp))
				check(t, pass(upstream.Body(), server))
				check(t, server.End(&resp.Trailer))
				check(t, server.Flush())
				read(t, client, sink)
				if !server.Next() || !upstream.Reusable() {
					t.Fatal("a connection cannot be used again")
				}
			}); n != 0 {
				t.Errorf("%v allocations an exchange, want 0", n)
			}
		})
	}
}

func check(t *testing.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, w io.Writer, p []byte) {
	_, err := w.Write(p)
	check(t, err)
}

func read(t *testing.T, r io.Reader, p []byte) {
	_, err := r.Read(p)
	check(t, err)
}

func pass(from message.BodyReader, to message.BodyWriter) error {
	for {
		p, err := from.Next(true)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := to.WriteBody(p); err != nil {
			return err
		}
	}
}
