package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"mpgate/internal/proxytest"
)

// TestUploadsKeepTheirConnection is about a race: a server that has the whole body may answer
// before the goroutine that sent it knows that it is over.
func TestUploadsKeepTheirConnection(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				c.Send(proxytest.Response("200 OK", "thanks"))
			}
		})
		g := start(t, setup{mode: m, noLog: true}, o)
		rounds := 50
		if raceEnabled {
			rounds = 5
		}
		for _, size := range []int{5, 100_000} {
			body := strings.Repeat("x", size)
			var wait sync.WaitGroup
			for range 4 {
				c := g.client()
				wait.Go(func() {
					for i := range rounds {
						// Head and body apart, so that an upload is under way.
						for _, s := range []string{fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n",
							host, size), body} {
							if _, err := c.Write([]byte(s)); err != nil {
								t.Errorf("sending request %d: %v", i, err)
								return
							}
						}
						head := make([]byte, 12)
						if _, err := readUntil(c, head, "thanks"); err != nil || string(head) != "HTTP/1.1 200" {
							t.Errorf("request %d of %d bytes: %q, %v", i, size, head, err)
							return
						}
					}
				})
			}
			wait.Wait()
		}
		// 8, and a few that were kept for too long to carry a POST.
		if n := o.Connections(); n > max(30, 2*rounds) {
			t.Errorf("%d connections to the server for %d uploads", n, 8*rounds)
		}
	})
}

// readUntil reads until the response ends with the text, and returns what precedes it.
func readUntil(c *proxytest.Client, head []byte, end string) (n int, err error) {
	var all strings.Builder
	for !strings.HasSuffix(all.String(), end) {
		b, err := c.R.ReadByte()
		if err != nil {
			return 0, err
		}
		all.WriteByte(b)
	}
	return copy(head, all.String()), nil
}
