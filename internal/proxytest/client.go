package proxytest

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpgate/mptcp"
)

// Client is a connection that sends bytes as they are. Its failures end the test; it is for the
// test's own goroutine.
type Client struct {
	net.Conn
	R *bufio.Reader
	t testing.TB
}

// Dial connects to address (host:port or unix:/path); the connection ends with the test.
func Dial(t testing.TB, address string, mode mptcp.Mode) *Client {
	t.Helper()
	nc, err := dial(address, mode)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, nc)
}

// NewClient makes a client of a connection.
func NewClient(t testing.TB, nc net.Conn) *Client {
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(Patience))
	return &Client{Conn: nc, R: bufio.NewReader(nc), t: t}
}

// Send writes s as it is.
func (c *Client) Send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("sending %.60q: %v", s, err)
	}
}

// CloseWrite ends the sending.
func (c *Client) CloseWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// Reset ends the connection with a RST.
func (c *Client) Reset() {
	nc := c.Conn
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // no close_notify
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// Secure uses TLS from here on.
func (c *Client) Secure(config *tls.Config) tls.ConnectionState {
	c.t.Helper()
	t := tls.Client(c.Conn, config)
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn = t
	c.R.Reset(t)
	return t.ConnectionState()
}

// Answer is a response as it came.
type Answer struct {
	Head     string
	Status   int
	Body     string // decoded
	Chunks   string // of a chunked body, as it came
	Trailer  string // field lines behind the last chunk
	BodyErr  error  // why the body is not complete
	Interims []string
}

// Header gives the values of a field, in any case, joined by " | "; Has says whether there is one.
func (a *Answer) Header(name string) string { v, _ := fieldOf(a.Head, name); return v }
func (a *Answer) Has(name string) bool      { _, ok := fieldOf(a.Head, name); return ok }

// ReadHead reads one head, interim or final.
func (c *Client) ReadHead() *Answer {
	c.t.Helper()
	a := &Answer{Head: readHead(c.R)}
	if a.Head == "" {
		c.t.Fatal("the connection ended before a response head was complete")
	}
	if len(a.Head) < 15 || !strings.HasPrefix(a.Head, "HTTP/1.") || a.Head[8] != ' ' {
		c.t.Fatalf("no status line: %.80q", a.Head)
	}
	status, err := strconv.Atoi(a.Head[9:12])
	if err != nil || a.Head[12] != ' ' && a.Head[12] != '\r' {
		c.t.Fatalf("no status code: %.80q", a.Head)
	}
	a.Status = status
	return a
}

// Answer reads the response to a GET, or to another method whose response has a body.
func (c *Client) Answer() *Answer {
	c.t.Helper()
	return c.AnswerTo("GET")
}

// AnswerTo reads a final response with its body, and the interim ones before it. One that has
// neither a length nor chunks is read to the end of the connection.
func (c *Client) AnswerTo(method string) *Answer {
	c.t.Helper()
	var interims []string
	for {
		a := c.ReadHead()
		if a.Status < 200 && a.Status != 101 {
			interims = append(interims, a.Head)
			continue
		}
		a.Interims = interims
		if method != "HEAD" && a.Status != 101 && a.Status != 204 && a.Status != 304 {
			c.readBody(a)
		}
		return a
	}
}

func (c *Client) readBody(a *Answer) {
	if !a.Has("Content-Length") && !a.Has("Transfer-Encoding") {
		b, err := io.ReadAll(c.R)
		a.Body, a.BodyErr = string(b), err
		return
	}
	a.Body, a.Chunks, a.BodyErr = readBody(c.R, a.Head)
	if i := strings.LastIndex(a.Chunks, "0\r\n"); i >= 0 && a.BodyErr == nil {
		a.Trailer = strings.TrimSuffix(a.Chunks[i+3:], "\r\n")
	}
}

// Get asks for a path on this connection.
func (c *Client) Get(path string) *Answer {
	c.t.Helper()
	c.Send("GET " + path + " HTTP/1.1\r\nHost: a.example\r\n\r\n")
	return c.Answer()
}

// Rest reads until the peer closes; err is nil where that was in order.
func (c *Client) Rest() (string, error) {
	b, err := io.ReadAll(c.R)
	return string(b), err
}

// WantClosed fails unless the peer closes now with nothing more to say; a reset will do too.
func (c *Client) WantClosed() {
	c.t.Helper()
	rest, err := c.Rest()
	if rest != "" {
		c.t.Fatalf("got %.200q, want the end of the connection", rest)
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		c.t.Fatal("the connection is still open, want its end")
	}
}
