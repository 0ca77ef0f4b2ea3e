package proxytest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/mptcp"
)

// Origin is a server that does on each connection what a script says.
type Origin struct {
	t      testing.TB
	listen net.Listener
	serve  func(*Conn)
	addr   string
	wait   sync.WaitGroup

	mu    sync.Mutex
	conns []*Conn
	ended bool
}

// NewOrigin starts an origin on a loopback port. serve is called for each connection in a goroutine
// of its own; when it returns the connection is closed in order. The origin ends with the test.
func NewOrigin(t testing.TB, mode mptcp.Mode, serve func(*Conn)) *Origin {
	t.Helper()
	return OriginOn(t, Listen(t, mode), serve)
}

// NewUnixOrigin is NewOrigin on a unix socket.
func NewUnixOrigin(t testing.TB, serve func(*Conn)) *Origin {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	o := OriginOn(t, l, serve)
	o.addr = "unix:" + path
	return o
}

// OriginOn is NewOrigin on a given socket.
func OriginOn(t testing.TB, l net.Listener, serve func(*Conn)) *Origin {
	o := &Origin{t: t, listen: l, serve: serve, addr: l.Addr().String()}
	o.wait.Go(o.accept)
	t.Cleanup(o.Close)
	return o
}

// Address is what a backend is to connect to.
func (o *Origin) Address() string { return o.addr }

func (o *Origin) accept() {
	for {
		nc, err := o.listen.Accept()
		if err != nil {
			return
		}
		c := &Conn{Conn: nc, Origin: o}
		c.R = bufio.NewReader(io.TeeReader(nc, c))
		_ = nc.SetDeadline(time.Now().Add(4 * Patience))
		o.mu.Lock()
		if o.ended {
			o.mu.Unlock()
			_ = nc.Close()
			return
		}
		c.Number = len(o.conns)
		o.conns = append(o.conns, c)
		o.wait.Go(func() {
			defer nc.Close()
			o.serve(c)
		})
		o.mu.Unlock()
	}
}

// Close ends the listening and every connection, and waits for the scripts.
func (o *Origin) Close() {
	_ = o.listen.Close()
	o.mu.Lock()
	if !o.ended {
		keepPort(o.t, o.listen.Addr())
	}
	o.ended = true
	for _, c := range o.conns {
		_ = c.Conn.Close()
	}
	o.mu.Unlock()
	o.wait.Wait()
}

// Connections is how many there were.
func (o *Origin) Connections() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

// Raw is what came, a string a connection.
func (o *Origin) Raw() (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		all = append(all, c.Raw())
	}
	return all
}

// AllRaw is what came on all connections together.
func (o *Origin) AllRaw() string { return strings.Join(o.Raw(), "\n--\n") }

// Conn is a connection to an Origin.
type Conn struct {
	net.Conn
	Origin *Origin
	Number int           // from 0, in the order of arrival
	R      *bufio.Reader // what comes, also for Raw

	mu  sync.Mutex
	raw bytes.Buffer
	n   int64
}

// maxRecorded bounds what is kept; large bodies are only counted.
const maxRecorded = 1 << 20

// Write records; it makes Conn the other end of the reader's tee. To send use Send.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(len(p))
	if c.raw.Len() < maxRecorded {
		c.raw.Write(p)
	}
	return len(p), nil
}

// Raw is what came so far, as far as the script has read.
func (c *Conn) Raw() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

// Count is the number of bytes that came so far.
func (c *Conn) Count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// Send writes as it is. It says whether that went well: scripts whose peer left just end.
func (c *Conn) Send(s string) bool {
	_, err := io.WriteString(c.Conn, s)
	return err == nil
}

// Reset ends the connection with a RST.
func (c *Conn) Reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// CloseWrite ends the sending.
func (c *Conn) CloseWrite() {
	_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Head reads a head, with its empty line; "" when the peer has closed.
func (c *Conn) Head() string { return readHead(c.R) }

// Request is what an Origin got.
type Request struct {
	Head   string // as it came
	Method string
	Target string
	Body   string // decoded
	Chunks string // as it came, of a chunked body
}

// Header gives the values of a field, in any case, joined by " | "; Has says whether there is one.
func (r *Request) Header(name string) string { v, _ := fieldOf(r.Head, name); return v }
func (r *Request) Has(name string) bool      { _, ok := fieldOf(r.Head, name); return ok }

// Request reads a request with its body; nil when the peer has closed, or what came is none.
func (c *Conn) Request() *Request {
	r := &Request{Head: c.Head()}
	line, _, _ := strings.Cut(r.Head, "\r\n")
	words := strings.Split(line, " ")
	if len(words) != 3 {
		return nil
	}
	r.Method, r.Target = words[0], words[1]
	if strings.EqualFold(r.Header("Expect"), "100-continue") {
		c.Send("HTTP/1.1 100 Continue\r\n\r\n")
	}
	var err error
	r.Body, r.Chunks, err = readBody(c.R, r.Head)
	if err != nil {
		return nil
	}
	return r
}

// Echo serves requests until the peer closes: the answer says which one it is for.
func Echo(c *Conn) {
	for {
		r := c.Request()
		if r == nil || !c.Send(EchoOf(r)) {
			return
		}
	}
}

// EchoOf is the answer of Echo.
func EchoOf(r *Request) string {
	body := r.Method + " " + r.Target + " " + r.Body
	return Response("200 OK", body)
}

// Response is an ordinary response with a body.
func Response(status, body string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nContent-Length: %d\r\n", status, len(body))
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n" + body
}

// Always serves requests with the same response.
func Always(response string) func(*Conn) {
	return func(c *Conn) {
		for c.Request() != nil && c.Send(response) {
		}
	}
}

func readHead(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" && b.Len() > 2 {
			return b.String()
		}
	}
}

func fieldOf(head, name string) (joined string, ok bool) {
	for _, line := range strings.Split(head, "\r\n")[1:] {
		n, v, found := strings.Cut(line, ":")
		if found && strings.EqualFold(n, name) {
			if ok {
				joined += " | "
			}
			joined += strings.TrimSpace(v)
			ok = true
		}
	}
	return joined, ok
}

// readBody reads a body as the head frames it: by length or chunked.
func readBody(r *bufio.Reader, head string) (body, raw string, err error) {
	if te, ok := fieldOf(head, "Transfer-Encoding"); ok {
		if te != "chunked" {
			return "", "", fmt.Errorf("transfer coding %q", te)
		}
		return readChunks(r)
	}
	length, ok := fieldOf(head, "Content-Length")
	if !ok {
		return "", "", nil
	}
	n, err := strconv.Atoi(length)
	if err != nil {
		return "", "", err
	}
	b := make([]byte, n)
	n, err = io.ReadFull(r, b)
	return string(b[:n]), "", err
}

// readChunks reads a chunked body strictly as RFC 9112 section 7.1 has it, extensions excepted:
// mpgate writes none.
func readChunks(r *bufio.Reader) (body, raw string, err error) {
	var b, all strings.Builder
	for {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return b.String(), all.String(), io.ErrUnexpectedEOF
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 31)
		if err != nil {
			return b.String(), all.String(), fmt.Errorf("chunk size line %q", line)
		}
		if n == 0 {
			break
		}
		data := make([]byte, n+2)
		k, err := io.ReadFull(r, data)
		all.Write(data[:k])
		b.Write(data[:min(k, int(n))])
		if err != nil {
			return b.String(), all.String(), io.ErrUnexpectedEOF
		}
		if string(data[n:]) != "\r\n" {
			return b.String(), all.String(), fmt.Errorf("no CRLF behind a chunk")
		}
	}
	for {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return b.String(), all.String(), io.ErrUnexpectedEOF
		}
		if line == "\r\n" {
			return b.String(), all.String(), nil
		}
	}
}
