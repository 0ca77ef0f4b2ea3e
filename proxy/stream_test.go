package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestEventsArriveAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, kind := range map[string]struct {
			head  string
			event func(s string) string
			end   string
		}{
			"chunked": {"Transfer-Encoding: chunked\r\n", func(s string) string {
				return fmt.Sprintf("%x\r\n%s\r\n",
					len(s), s)
			}, "0\r\n\r\n"},
			"close":  {"", func(s string) string { return s }, ""},
			"length": {"Content-Length: 170\r\n", func(s string) string { return s }, ""},
		} {
			t.Run(name, func(t *testing.T) {
				next := make(chan struct{})
				o := m.origin(t, func(c *proxytest.Conn) {
					if c.Request() == nil {
						return
					}
					c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + kind.head + "\r\n")
					for i := range 10 {
						<-next // not before the client has seen the one before
						c.Send(kind.event(fmt.Sprintf("data: number %d\n\n\n", i)))
					}
					c.Send(kind.end)
				})
				g := start(t, setup{mode: m}, o)
				c := g.client()
				c.Send("GET /events HTTP/1.1\r\n" + host + "\r\n")
				a := c.ReadHead()
				want(t, "status", a.Status, 200) // the head too, before any event
				for i := range 10 {
					next <- struct{}{}
					if a.Has("Transfer-Encoding") {
						_, _ = c.R.ReadString('\n') // chunk size
					}
					event := make([]byte, 17)
					if _, err := io.ReadFull(c.R, event); err != nil ||
						string(event) != fmt.Sprintf("data: number %d\n\n\n", i) {
						t.Fatalf("event %d is %q, %v", i, event, err)
					}
					if a.Has("Transfer-Encoding") {
						_, _ = c.R.ReadString('\n')
					}
				}
				want(t, "bytes out", g.log.Next().BytesOut, 170)
			})
		}
	})
}

func TestTricklesToTheServerArriveAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, framing := range []string{"Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"} {
			got := make(chan byte)
			o := m.origin(t, func(c *proxytest.Conn) {
				c.Head()
				for range 10 {
					if strings.HasPrefix(framing, "T") {
						_, _ = c.R.ReadString('\n')
					}
					b, _ := c.R.ReadByte()
					got <- b
					if strings.HasPrefix(framing, "T") {
						_, _ = c.R.ReadString('\n')
					}
				}
				c.Send(proxytest.Response("200 OK", "done"))
			})
			g := start(t, setup{mode: m}, o)
			c := g.client()
			c.Send("POST / HTTP/1.1\r\n" + host + framing + "\r\n")
			for i := range byte(10) {
				if strings.HasPrefix(framing, "T") {
					c.Send("1\r\n" + string('a'+i) + "\r\n")
				} else {
					c.Send(string('a' + i))
				}
				want(t, "byte", <-got, 'a'+i)
			}
			if strings.HasPrefix(framing, "T") {
				c.Send("0\r\n\r\n")
			}
			want(t, "body", c.AnswerTo("POST").Body, "done")
		}
	})
}

// pattern is what large bodies consist of, so that a piece that is lost or twice there shows.
var pattern = func() []byte {
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return p
}()

// checker is a writer that compares with the pattern.
type checker struct {
	n   int64
	bad bool
}

func (c *checker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		at := int(c.n % int64(len(pattern)))
		k := min(len(rest), len(pattern)-at)
		c.bad = c.bad || !bytes.Equal(rest[:k], pattern[at:at+k])
		c.n += int64(k)
		rest = rest[k:]
	}
	return len(p), nil
}

func rss(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestLargeBodiesStream runs alone: it measures this process, in which client, gateway and server
// are. More than 256 MiB go through where MPGATE_TEST_LARGE_MIB says so.
func TestLargeBodiesStream(t *testing.T) {
	size := largeSize(t)
	for _, m := range modes {
		if m.inherited || m.tls {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			if m.mptcp != mptcp.Off {
				proxytest.NeedMPTCP(t)
			}
			o := m.origin(t, func(c *proxytest.Conn) {
				for head := c.Head(); head != ""; head = c.Head() {
					if strings.HasPrefix(head, "GET") {
						fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
						for range size >> 20 {
							if _, err := c.Conn.Write(pattern); err != nil {
								return
							}
						}
						continue
					}
					var sum checker
					if _, err := io.CopyN(&sum, c.R, size); err != nil || sum.bad {
						t.Errorf("the server got %d bytes, %v, as they were sent: %v", sum.n, err, !sum.bad)
						return
					}
					c.Send(proxytest.Response("200 OK", "thanks"))
				}
			})
			g := start(t, setup{mode: m}, o)
			c := g.client()
			_ = c.SetDeadline(time.Now().Add(4 * proxytest.Patience))
			c.Get("/") // whatever is needed for one is there
			runtime.GC()
			before, most := rss(t), int64(0)
			watch := func() { most = max(most, rss(t)-before) }
			c.Send("GET /large HTTP/1.1\r\n" + host + "\r\n")
			want(t, "status", c.ReadHead().Status, 200)
			var sum checker
			for range size >> 20 {
				if _, err := io.CopyN(&sum, c.R, 1<<20); err != nil {
					t.Fatal(err)
				}
				watch()
			}
			if sum.bad || sum.n != size {
				t.Error("the body is not as it was sent")
			}
			c.Send(fmt.Sprintf("POST /large HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, size))
			for range size >> 20 {
				if _, err := c.Conn.Write(pattern); err != nil {
					t.Fatal(err)
				}
				watch()
			}
			want(t, "body", c.AnswerTo("POST").Body, "thanks")
			t.Logf("%d MiB each way, RSS grew by %d KiB", size>>20, most>>10)
			if most > 8<<20 && !raceEnabled {
				t.Errorf("RSS grew by %d KiB, want less than 8 MiB", most>>10)
			}
		})
	}
}

func largeSize(t testing.TB) int64 {
	if s := os.Getenv("MPGATE_TEST_LARGE_MIB"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n << 20
	}
	return 256 << 20
}

func TestSlowReaderHoldsTheServerBack(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		var sent atomic.Int64
		o := m.origin(t, func(c *proxytest.Conn) {
			c.Request()
			fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", 64<<10, pattern[:64<<10]); err != nil {
					return
				}
				sent.Add(64 << 10)
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		c.ReadHead() // and reads no more
		stalls(t, &sent)
	})
}

func TestSlowServerHoldsTheClientBack(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		release := make(chan struct{})
		o := m.origin(t, func(c *proxytest.Conn) {
			c.Head()
			<-release // and reads no more
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 10000000000\r\n\r\n")
		var sent atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := c.Conn.Write(pattern[:64<<10]); err != nil {
					return
				}
				sent.Add(64 << 10)
			}
		}()
		stalls(t, &sent)
		c.Close()
		close(release)
		<-done
	})
}

// stalls waits until nothing more is taken, and bounds what was: the sockets' buffers hold some
// megabytes of it, the gateway next to nothing.
func stalls(t *testing.T, sent *atomic.Int64) {
	t.Helper()
	last, since := int64(-1), time.Now()
	ok := proxytest.Within(proxytest.Patience, func() bool {
		if n := sent.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 300*time.Millisecond
	})
	if !ok || last > 48<<20 {
		t.Errorf("%d MiB were taken, and stalled: %v", last>>20, ok)
	}
}

// TestManyBodiesTakeFewDescriptors runs alone: it counts those of this process. Bodies may pass
// through pipes, which take two each.
func TestManyBodiesTakeFewDescriptors(t *testing.T) {
	const bodies, size = 150, 1 << 20
	begun, goOn := make(chan struct{}, bodies), make(chan struct{})
	o := plain.origin(t, func(c *proxytest.Conn) {
		for c.Request() != nil {
			fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			_, _ = c.Conn.Write(pattern[:size/2])
			begun <- struct{}{}
			<-goOn
			_, _ = c.Conn.Write(pattern[size/2:])
		}
	})
	g := start(t, setup{noLog: true}, o)
	before := pipes(descriptors())
	var clients []*proxytest.Client
	for range bodies {
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		clients = append(clients, c)
	}
	sums := make([]checker, bodies)
	for i, c := range clients {
		c.ReadHead()
		if _, err := io.CopyN(&sums[i], c.R, size/2); err != nil {
			t.Fatal(err)
		}
		<-begun
	}
	if n := pipes(descriptors()); n > max(before, keptPipes) {
		t.Errorf("%d descriptors of pipes, want at most %d", n, keptPipes)
	}
	close(goOn)
	for i, c := range clients {
		if _, err := io.CopyN(&sums[i], c.R, size/2); err != nil || sums[i].bad {
			t.Fatalf("body %d is not as it was sent, %v", i, err)
		}
	}
}
