package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
	"mpgate/proxy/preread"
)

// chaos counts how often each request was executed, by all servers.
type chaos struct {
	mu       sync.Mutex
	got      map[string]int // requests that came, by their id
	executed map[string]int // those among them that were executed
	faults   map[string]int
	stalls   int  // that are left
	late     bool // requests without a fault are answered late
}

// fault is what happens to a request, at random: "" is an answer.
func (c *chaos) fault(method, id string, http2 bool) (fault string) {
	faults := []string{"", "close", "reset", "503"}
	if http2 {
		faults = append(faults, "refuse", "goaway", "goaway")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if method == "GET" && c.stalls > 0 {
		faults = append(faults, "stall")
	}
	fault = faults[rand.N(len(faults))]
	if fault == "stall" {
		c.stalls--
	}
	if fault != "503" && fault != "refuse" && fault != "goaway" {
		c.executed[id]++
	}
	c.faults[fault]++
	return fault
}

func (c *chaos) of(id string) (got, executed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[id], c.executed[id]
}

const unavailable = "503 Service Unavailable"

// serve is a server of HTTP/1. A healthy one has no faults.
func (c *chaos) serve(healthy bool) func(*proxytest.Conn) {
	return func(s *proxytest.Conn) {
		for r := s.Request(); r != nil; r = s.Request() {
			fault := ""
			c.come(r.Target)
			if healthy {
				c.execute(r.Target)
			} else {
				fault = c.fault(r.Method, r.Target, false)
			}
			if fault == "" && !healthy {
				c.delay()
			}
			switch fault {
			case "":
				s.Send(proxytest.EchoOf(r))
			case "503":
				s.Send(proxytest.Response(unavailable, "chaos"))
			case "close":
				return
			case "reset":
				s.Reset()
				return
			case "stall":
				_, _ = s.R.ReadByte()
				return
			}
		}
	}
}

// delay lets some time pass, so that a second copy may be sent meanwhile.
func (c *chaos) delay() {
	if c.late {
		<-time.After(rand.N(20 * time.Millisecond))
	}
}

func (c *chaos) execute(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.executed[id]++
}

// come counts a request that a server has seen.
func (c *chaos) come(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[id]++
}

// serve2 is a server of HTTP/2.
func (c *chaos) serve2(healthy bool) func(*proxytest.Conn) {
	return func(s *proxytest.Conn) {
		if _, err := io.CopyN(io.Discard, s.R, int64(len(preread.Preface))); err != nil {
			return
		}
		fr := xhttp2.NewFramer(s.Conn, s.R)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = fr.WriteSettings()
		type request struct{ method, id string }
		requests, bodies := map[uint32]request{}, map[uint32]string{}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			id, ended := f.Header().StreamID, false
			switch f := f.(type) {
			case *xhttp2.MetaHeadersFrame:
				requests[id], ended = request{f.PseudoValue("method"), f.PseudoValue("path")}, f.StreamEnded()
				c.come(requests[id].id)
			case *xhttp2.DataFrame:
				bodies[id] += string(f.Data())
				ended = f.StreamEnded()
			case *xhttp2.PingFrame:
				if !f.IsAck() {
					_ = fr.WritePing(true, f.Data)
				}
			}
			if !ended {
				continue
			}
			r, fault := requests[id], ""
			if healthy {
				c.execute(r.id)
			} else {
				fault = c.fault(r.method, r.id, true)
			}
			if fault == "" && !healthy {
				c.delay()
			}
			status := "200"
			switch fault {
			case "503":
				status = fault
			case "close":
				_ = fr.WriteGoAway(id, xhttp2.ErrCodeNo, nil)
				linger(s)
				return
			case "reset":
				_ = fr.WriteRSTStream(id, xhttp2.ErrCodeInternal)
				continue
			case "refuse":
				_ = fr.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream)
				continue
			case "goaway":
				_ = fr.WriteGoAway(id-1, xhttp2.ErrCodeNo, nil)
				linger(s)
				return
			case "stall":
				continue
			}
			var b bytes.Buffer
			_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: status})
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
			_ = fr.WriteData(id, true, []byte(r.method+" "+r.id+" "+bodies[id]))
		}
	}
}

// linger ends a connection so that what was sent arrives.
func linger(c *proxytest.Conn) {
	c.CloseWrite()
	_, _ = io.Copy(io.Discard, c.R)
}

// TestChaos sends requests to servers that close and reset connections, stall, answer 503, refuse
// connections and streams, and go away; and, where requests are hedged, answer late. No POST is
// executed twice, no GET is lost while a server works, and no POST that never reached a server.
func TestChaos(t *testing.T) {
	hedge := &backend.Hedge{After: time.Millisecond, Budget: 10}
	for name, tt := range map[string]struct {
		protocol backend.Protocol
		hedge    *backend.Hedge
	}{
		"h1": {backend.HTTP1, nil}, "h2c": {backend.HTTP2, nil}, "h1, hedged": {backend.HTTP1, hedge}, "h2c, hedged": {backend.HTTP2, hedge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			protocol := tt.protocol
			c := &chaos{got: map[string]int{}, executed: map[string]int{}, faults: map[string]int{}, stalls: 2, late: tt.hedge != nil}
			serve := c.serve
			if protocol == backend.HTTP2 {
				serve = c.serve2
			}
			var servers []string
			for i := range 3 {
				servers = append(servers, plain.origin(t, serve(i == 0)).Address())
			}
			servers = append(servers, proxytest.NewRefusing(t).Address)
			g := startBefore(t, setup{noLog: true, backend: backend.Options{
				Protocol: protocol, ResponseTimeout: proxytest.Patience, Hedge: tt.hedge,
				// A request may try every server, and a connection that was closed meanwhile.
				Retry: rules(func(r *backend.Retry) {
					r.Tries, r.Budget, r.TryTimeout = 5, 10, 2*time.Second
					r.On |= backend.OnTimeout | backend.On503
				}),
			}}, servers...)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for j := range 40 {
						method, body := "GET", ""
						if j%2 == 1 {
							method, body = "POST", "hi"
						}
						c.send(t, g, method, fmt.Sprintf("/%d/%d", i, j), body)
					}
				})
			}
			wg.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Log("faults:", c.faults)
			for _, fault := range []string{"close", "reset", "503"} {
				want(t, "there was "+fault, c.faults[fault] > 0, true)
			}
			want(t, "retries", g.metric("mpgate_backend_retries_total") > 0, true)
			if tt.hedge != nil {
				t.Logf("second copies: %v won, %v lost", g.hedges("won"), g.hedges("lost"))
				want(t, "second copies", g.hedges("won") > 0 && g.hedges("lost") > 0, true)
			}
		})
	}
}

// send sends one request and checks its outcome.
func (c *chaos) send(t *testing.T, g *gateway, method, id, body string) {
	client := g.client()
	defer client.Close()
	client.Send(method + " " + id + " HTTP/1.1\r\n" + host + "Content-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body)
	a := client.AnswerTo(method)
	got, executed := c.of(id)
	switch {
	case a.Status == 200 && (executed == 0 || a.Body != method+" "+id+" "+body):
		t.Errorf("%s %s: executed %d times, answer %q", method, id, executed, a.Body)
	case method == "POST" && executed > 1:
		t.Errorf("POST %s was executed %d times", id, executed)
	case method == "GET" && a.Status != 200:
		t.Errorf("GET %s was lost: %d %s; %d servers got it", id, a.Status, strings.TrimSpace(a.Body), got)
	case method == "POST" && a.Status != 200 && got == 0:
		t.Errorf("POST %s was lost: %d %s; no server got it", id, a.Status, strings.TrimSpace(a.Body))
	}
}
