package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// thinking makes an origin that does not answer /think, or begins an answer and falls silent, and
// tells when its connection ends.
func thinking(t *testing.T, m mode, begin string) (o *proxytest.Origin, asked, gone chan struct{}) {
	asked, gone = make(chan struct{}, 16), make(chan struct{}, 16)
	o = m.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if r.Target != "/think" {
				c.Send(proxytest.EchoOf(r))
				continue
			}
			c.Send(begin)
			asked <- struct{}{}
			_, _ = c.R.ReadByte()
			gone <- struct{}{}
			return
		}
	})
	return o, asked, gone
}

// soon is how long the gateway may take to end the server's connection behind a client that left:
// it looks after 100 ms, the rest is for a busy machine.
const soon = 3 * time.Second

func wantSoon(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	began := time.Now()
	select {
	case <-c:
		if took := time.Since(began); took > soon {
			t.Errorf("%s took %v", what, took)
		}
	case <-time.After(proxytest.Patience):
		t.Fatalf("%s did not happen", what)
	}
}

func TestClientLeavesWhileTheServerThinks(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, leave := range map[string]func(*proxytest.Client){
			"closes": func(c *proxytest.Client) { c.Close() },
			"resets": func(c *proxytest.Client) { c.Reset() },
		} {
			for kind, request := range map[string]string{
				"GET":  "GET /think HTTP/1.1\r\n" + host + "\r\n",
				"POST": "POST /think HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello",
			} {
				t.Run(name+" "+kind, func(t *testing.T) {
					o, asked, gone := thinking(t, m, "")
					g := start(t, setup{mode: m}, o)
					c := g.client()
					c.Send(request)
					<-asked
					leave(c)
					wantSoon(t, "the end of the server's connection", gone)
					l := g.log.Next()
					want(t, "end", l.End, "client_gone")
					want(t, "status", l.Status, 0)
					if l.BackendMS != nil {
						t.Errorf("backend_ms is %v of a server that said nothing", *l.BackendMS)
					}
					g.bystander()
				})
			}
		}
	})
}

func TestClientLeavesDuringASilentStream(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, begin := range map[string]string{
			"chunked": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"7\r\ndata: 1\r\n",
			"until close": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1",
			"length":      "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\ndata: 1",
		} {
			t.Run(name, func(t *testing.T) {
				o, asked, gone := thinking(t, m, begin)
				g := start(t, setup{mode: m}, o)
				c := g.client()
				c.Send("GET /think HTTP/1.1\r\n" + host + "\r\n")
				<-asked
				c.ReadHead()
				for b := byte(0); b != '1'; b, _ = c.R.ReadByte() {
				}
				c.Close()
				wantSoon(t, "the end of the server's connection", gone)
				l := g.log.Next()
				want(t, "end", l.End, "client_gone")
				want(t, "status", l.Status, 200)
				want(t, "bytes out", l.BytesOut, 7)
				g.bystander()
			})
		}
	})
}

func TestPipelinedRequestsSurviveTheWatch(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		release := make(chan struct{})
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if r.Target == "/slow" {
					<-release
				}
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("GET /slow HTTP/1.1\r\n" + host + "\r\n")
		// The watch begins after some 100 ms and reads what comes next: it must not be lost.
		timer := time.NewTimer(250 * time.Millisecond)
		<-timer.C
		c.Send("POST /behind HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhel")
		release <- struct{}{}
		want(t, "body", c.Answer().Body, "GET /slow ")
		c.Send("loGET /last HTTP/1.1\r\n" + host + "\r\n")
		want(t, "body", c.AnswerTo("POST").Body, "POST /behind hello")
		want(t, "body", c.Answer().Body, "GET /last ")
	})
}

func TestEarlyAnswerDuringALargeUpload(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		const size = 64 << 20 // more than the sockets on the way hold
		large := strings.Repeat("x", 1<<20)
		for name, framing := range map[string][2]string{
			"length":  {fmt.Sprintf("Content-Length: %d\r\n", size), large},
			"chunked": {"Transfer-Encoding: chunked\r\n", "100000\r\n" + large + "\r\n"},
		} {
			t.Run(name, func(t *testing.T) {
				goOn := make(chan struct{}, 2)
				o := m.origin(t, func(c *proxytest.Conn) {
					head := c.Head()
					if strings.HasPrefix(head, "GET") {
						c.Send(proxytest.Response("200 OK", "GET /innocent/1 "))
						c.Head()
						c.Send(proxytest.Response("200 OK", "GET /innocent/2 "))
						return
					}
					// A large answer before anything of the body was read: with one goroutine for
					// both directions the two would block each other.
					fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 4*len(large))
					for range 4 {
						c.Send(large)
					}
					<-goOn
					if strings.HasPrefix(head, "POST /read") {
						_, _ = io.Copy(io.Discard, c.R)
					}
				})
				g := start(t, setup{mode: m}, o)
				for _, path := range []string{"/read", "/leave"} {
					c := g.client()
					uploaded := make(chan error, 1)
					go func() {
						_, err := io.WriteString(c.Conn, "POST "+path+" HTTP/1.1\r\n"+host+framing[0]+"\r\n")
						for i := 0; i < size>>20 && err == nil; i++ {
							_, err = io.WriteString(c.Conn, framing[1])
						}
						uploaded <- err
					}()
					a := c.AnswerTo("POST")
					if len(a.Body) != 4*len(large) || a.BodyErr != nil {
						t.Errorf("%s: got %d bytes of the answer, %v", path, len(a.Body), a.BodyErr)
					}
					goOn <- struct{}{}
					c.Close()
					<-uploaded
					want(t, "end", g.log.Next().End, "ok")
				}
				g.bystander()
			})
		}
	})
}

func TestBodyComesWhileAnEarlyAnswerIsRead(t *testing.T) {
	// For the race detector: the body ends while the answer is on its way.
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for head := c.Head(); head != ""; head = c.Head() {
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
				if _, err := io.ReadFull(c.R, make([]byte, 10)); err != nil {
					return
				}
				c.Send("world")
			}
		})
		g := start(t, setup{mode: m}, o)
		for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
			for range 20 {
				c := g.client()
				c.Send("POST / HTTP/1.1\r\n" + host + expect + "Content-Length: 10\r\n\r\n")
				done := make(chan struct{})
				go func() { defer close(done); _, _ = io.WriteString(c.Conn, "0123456789") }()
				a := c.AnswerTo("POST")
				want(t, "body", a.Body, "helloworld")
				<-done
				c.Close()
				want(t, "end", g.log.Next().End, "ok")
			}
		}
	})
}

func TestServerSilentDuringAnUpload(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, asked, gone := make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
		origin := m.origin(t, func(c *proxytest.Conn) {
			if strings.HasPrefix(c.Head(), "GET") {
				return
			}
			asked <- struct{}{}
			<-o // reads nothing
			_, _ = io.Copy(io.Discard, c.R)
			gone <- struct{}{}
		})
		g := start(t, setup{mode: m}, origin)
		c := g.client()
		c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 100000000\r\n\r\nbeginning")
		<-asked
		c.Close() // the client leaves within its upload
		l := g.log.Next()
		want(t, "end", l.End, "client_gone")
		want(t, "bytes in", l.BytesIn, 9)
		close(o)
		<-gone
	})
}
