package http1

import (
	"io"
	"strings"
	"testing"

	"mpgate/proxy/message"
)

func TestAppendRequest(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"minimal", "GET / HTTP/1.1|Host: x||", "GET / HTTP/1.1|Host: x||"},
		{"1.0 is sent as our version", "GET /a?b HTTP/1.0||", "GET /a?b HTTP/1.1|Host: ||"},
		{"canonical", "GET http://X:081/./a?%zz HTTP/1.1|Host: X:81||", "GET /a?%zz HTTP/1.1|Host: x:81||"},
		{"empty query", "GET /? HTTP/1.1|Host: x||", "GET /? HTTP/1.1|Host: x||"},
		{"asterisk", "OPTIONS http://x HTTP/1.1|Host: x||", "OPTIONS * HTTP/1.1|Host: x||"},
		{"fields", "GET / HTTP/1.1|B:1|Host: x|a: 2 |B:||", "GET / HTTP/1.1|Host: x|B: 1|a: 2|B: ||"},
		{"length", "PUT / HTTP/1.1|Host: x|Content-Length: 007||", "PUT / HTTP/1.1|Host: x|Content-Length: 7||"},
		{"no body of a POST", "POST / HTTP/1.1|Host: x||", "POST / HTTP/1.1|Host: x|Content-Length: 0||"},
		{"no body of a GET", "GET / HTTP/1.1|Host: x|Content-Length: 0||", "GET / HTTP/1.1|Host: x||"},
		{"chunked", "GET / HTTP/1.1|Host: x|Transfer-Encoding: Chunked||", "GET / HTTP/1.1|Host: x|Transfer-Encoding: chunked||"},
		{"expect", "PUT / HTTP/1.1|Host: x|Content-Length: 7|expect: 100-CONTINUE||", "PUT / HTTP/1.1|Host: x|Content-Length: 7|Expect: 100-continue||"},
		{"trailers", "GET / HTTP/1.1|Host: x|TE: gzip, trailers||", "GET / HTTP/1.1|Host: x|Connection: TE|TE: trailers||"},
		{"upgrade", "GET / HTTP/1.1|Host: x|Connection: keep-alive, Upgrade|Upgrade: websocket||", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket||"},
	} {
		var r message.Request
		if _, err := ParseRequest([]byte(lines(c.in)), &r, testLimits); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := string(AppendRequest(nil, &r)); got != lines(c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, got, lines(c.want))
		}
	}
}

// serve answers request with resp and body on a real connection, and gives what the client gets.
func serve(t *testing.T, request string, resp *message.Response, body []string, trailer *message.Header) (got string, c *ServerConn, err error) {
	t.Helper()
	conn, peer := pair(t)
	c = NewServerConn(conn, &testServer)
	t.Cleanup(c.Release)
	if _, err := io.WriteString(peer, lines(request)); err != nil {
		t.Fatal(err)
	}
	var r message.Request
	if err := c.ReadRequest(&r, farAway().Add(-testServer.HeaderTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(c.Body()); err != nil {
		t.Fatal(err)
	}
	err = c.WriteHead(resp)
	for _, p := range body {
		if err == nil {
			err = c.WriteBody([]byte(p))
		}
	}
	if err == nil {
		err = c.End(trailer)
	}
	if err == nil {
		err = c.End(trailer) // a second time adds nothing
	}
	if closing := conn.CloseWrite(); closing != nil {
		t.Fatal(closing)
	}
	b, readErr := io.ReadAll(peer)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return strings.ReplaceAll(string(b), "\r\n", "|"), c, err
}

// An end that could not be written is none.
func TestEndFails(t *testing.T) {
	for _, f := range []framing{chunked, raw} {
		conn, _ := pair(t)
		w := bodyWriter{s: conn}
		w.reset(f, message.Unknown)
		if err := w.WriteBody([]byte("x")); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		for range 2 {
			if err := w.End(nil); err == nil || w.ended {
				t.Errorf("framing %d on a closed connection: %v, ended %v", f, err, w.ended)
			}
		}
	}
}

func TestResponses(t *testing.T) {
	const get11, get10, keep10 = "GET / HTTP/1.1|Host: x||", "GET / HTTP/1.0||", "GET / HTTP/1.0|Connection: keep-alive||"
	var trailer message.Header
	trailer.AddName([]byte("X-Sum"), []byte("1"))
	for _, c := range []struct {
		name, request string
		resp          message.Response
		body          []string
		trailer       *message.Header
		want          string
		err           error
		next          bool
	}{
		{"length", get11, message.Response{Status: 200, ContentLength: 5}, []string{"ab", "", "cde"}, nil, "HTTP/1.1 200 OK|Content-Length: 5||abcde", nil, true},
		{"no body", get11, message.Response{Status: 200}, nil, nil, "HTTP/1.1 200 OK|Content-Length: 0||", nil, true},
		{"chunked", get11, message.Response{Status: 200, ContentLength: message.Unknown}, []string{"ab", "", "0123456789abcdef"}, nil,
			"HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ab|10|0123456789abcdef|0||", nil, true},
		{"chunked, empty", get11, message.Response{Status: 200, ContentLength: message.Unknown}, []string{""}, nil, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||0||", nil, true},
		{"trailers", get11, message.Response{Status: 200, ContentLength: message.Unknown}, []string{"ab"}, &trailer,
			"HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|ab|0|X-Sum: 1||", nil, true},
		{"no trailers", get11, message.Response{Status: 200, ContentLength: message.Unknown}, nil, &message.Header{}, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||0||", nil, true},
		{"too long", get11, message.Response{Status: 200, ContentLength: 3}, []string{"ab", "cd"}, nil, "HTTP/1.1 200 OK|Content-Length: 3||ab", ErrBodyLength, false},
		{"too short", get11, message.Response{Status: 200, ContentLength: 3}, []string{"ab"}, nil, "HTTP/1.1 200 OK|Content-Length: 3||ab", ErrBodyLength, false},
		{"body where there is none", get11, message.Response{Status: 200}, []string{"ab"}, nil, "HTTP/1.1 200 OK|Content-Length: 0||", ErrBodyLength, false},
		{"reason", get11, message.Response{Status: 404, Reason: []byte("Weg")}, nil, nil, "HTTP/1.1 404 Weg|Content-Length: 0||", nil, true},
		{"empty reason", get11, message.Response{Status: 404, Reason: []byte{}}, nil, nil, "HTTP/1.1 404 |Content-Length: 0||", nil, true},
		{"unknown code", get11, message.Response{Status: 599}, nil, nil, "HTTP/1.1 599 Status|Content-Length: 0||", nil, true},
		{"close", "GET / HTTP/1.1|Host: x|Connection: close||", message.Response{Status: 200}, nil, nil, "HTTP/1.1 200 OK|Content-Length: 0|Connection: close||", nil, false},

		{"1.0, length", get10, message.Response{Status: 200, ContentLength: 2}, []string{"ab"}, nil, "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ab", nil, false},
		{"1.0, until close", get10, message.Response{Status: 200, ContentLength: message.Unknown}, []string{"ab", "cd"}, &trailer, "HTTP/1.1 200 OK|Connection: close||abcd", nil, false},
		{"1.0, kept", keep10, message.Response{Status: 200, ContentLength: 2}, []string{"ab"}, nil, "HTTP/1.1 200 OK|Content-Length: 2|Connection: keep-alive||ab", nil, true},
		{"1.0, cannot be kept", keep10, message.Response{Status: 200, ContentLength: message.Unknown}, []string{"ab"}, nil, "HTTP/1.1 200 OK|Connection: close||ab", nil, false},
		{"1.0, 204", keep10, message.Response{Status: 204, NoBody: true}, nil, nil, "HTTP/1.1 204 No Content|Connection: keep-alive||", nil, true},

		{"HEAD, length", "HEAD / HTTP/1.1|Host: x||", message.Response{Status: 200, ContentLength: 5, NoBody: true}, nil, nil, "HTTP/1.1 200 OK|Content-Length: 5||", nil, true},
		{"HEAD, unknown length", "HEAD / HTTP/1.1|Host: x||", message.Response{Status: 200, ContentLength: message.Unknown}, nil, nil, "HTTP/1.1 200 OK||", nil, true},
		{"HEAD in 1.0, unknown length", "HEAD / HTTP/1.0|Connection: keep-alive||", message.Response{Status: 200, ContentLength: message.Unknown}, nil, nil,
			"HTTP/1.1 200 OK|Connection: keep-alive||", nil, true},
		{"HEAD with a body", "HEAD / HTTP/1.1|Host: x||", message.Response{Status: 200, ContentLength: 5}, []string{"abcde"}, nil, "HTTP/1.1 200 OK|Content-Length: 5||", ErrBodyLength, false},
		{"204", get11, message.Response{Status: 204, ContentLength: 5}, nil, nil, "HTTP/1.1 204 No Content||", nil, true},
		{"204 with a body", get11, message.Response{Status: 204, ContentLength: message.Unknown}, []string{"ab"}, nil, "HTTP/1.1 204 No Content||", ErrBodyLength, false},
		{"304", get11, message.Response{Status: 304, ContentLength: 5, NoBody: true}, nil, nil, "HTTP/1.1 304 Not Modified|Content-Length: 5||", nil, true},
		{"304, unknown length", get11, message.Response{Status: 304, ContentLength: message.Unknown, NoBody: true}, nil, nil, "HTTP/1.1 304 Not Modified||", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, conn, err := serve(t, c.request, &c.resp, c.body, c.trailer)
			if got != c.want || err != c.err {
				t.Errorf("got  %q, %v\nwant %q, %v", got, err, c.want, c.err)
			}
			if conn.Next() != c.next {
				t.Errorf("Next() = %v", conn.Next())
			}
			if err := conn.End(nil); conn.framing == byLength && err != c.err {
				t.Errorf("a second End gives %v, want %v", err, c.err)
			}
			if err := conn.WriteBody([]byte("x")); c.err == nil && err == nil {
				t.Error("a body can be written behind its end")
			}
		})
	}
}
