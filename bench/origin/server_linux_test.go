package origin

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/need"
)

func serve(t *testing.T, threads int) *Server {
	t.Helper()
	s, err := New(Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		goleak.VerifyNone(t)
	})
	return s
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, []byte) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v after %d bytes", url, err, len(body))
	}
	return resp, body
}

func TestAnswersAsNetHTTPReadsThem(t *testing.T) {
	s := serve(t, 2)
	for _, address := range []string{s.TCP, s.MPTCP} {
		if address == "" {
			continue
		}
		c := &http.Client{Transport: &http.Transport{}}
		for _, size := range []int{0, 1, 1 << 10, 100 << 10, 10 << 20} {
			resp, body := get(t, c, fmt.Sprintf("http://%s/bytes/%d", address, size))
			if resp.StatusCode != 200 || len(body) != size || resp.ContentLength != int64(size) {
				t.Errorf("%d bytes: status %d, %d bytes, Content-Length %d", size, resp.StatusCode, len(body), resp.ContentLength)
			}
			date, err := http.ParseTime(resp.Header.Get("Date"))
			if err != nil || time.Since(date).Abs() > time.Minute {
				t.Errorf("Date %q: %v", resp.Header.Get("Date"), err)
			}
		}
		if resp, _ := get(t, c, "http://"+address+"/bytes/99999999"); resp.StatusCode != 404 {
			t.Errorf("more than MaxBody: status %d, want 404", resp.StatusCode)
		}
		c.CloseIdleConnections()
	}
}

func TestStatsSayHowConnectionsCame(t *testing.T) {
	s := serve(t, 2)
	ask := func(address string, mptcp bool) (st Stats) {
		var d net.Dialer
		d.SetMultipathTCP(mptcp)
		c := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
		defer c.CloseIdleConnections()
		get(t, c, "http://"+address+"/bytes/10")
		_, body := get(t, c, "http://"+address+"/stats")
		if err := json.Unmarshal(body, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if got, want := ask(s.TCP, false), (Stats{TCP: 1, Requests: 1}); got != want {
		t.Errorf("after a TCP client: %+v, want %+v", got, want)
	}
	if s.MPTCP == "" {
		need.Missing(t, "no MPTCP on this host: net.mptcp.enabled, or a kernel before 5.6")
	}
	if got, want := ask(s.MPTCP, true), (Stats{TCP: 1, MPTCP: 1, Requests: 2}); got != want {
		t.Errorf("after an MPTCP client: %+v, want %+v", got, want)
	}
	if got, want := ask(s.MPTCP, false), (Stats{TCP: 2, MPTCP: 1, Requests: 3}); got != want {
		t.Errorf("a plain client of the MPTCP listener: %+v, want %+v", got, want)
	}
}

// More pipelined requests than the socket's buffers hold answers for: each is answered once the
// client reads.
func TestPipelineAgainstAFullSocket(t *testing.T) {
	s := serve(t, 1)
	c, err := net.Dial("tcp", s.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 60
	if _, err := c.Write(bytes.Repeat([]byte("GET /bytes/1048576 HTTP/1.1\r\nHost: x\r\n\r\n"), n)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReaderSize(c, 1<<20)
	for i := range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if got, err := io.Copy(io.Discard, resp.Body); got != 1<<20 || err != nil {
			t.Fatalf("answer %d: %d bytes, %v", i, got, err)
		}
	}
}

func TestClosing(t *testing.T) {
	s := serve(t, 1)
	for _, c := range []struct{ in, want string }{
		{"GET /bytes/3 HTTP/1.1\r\nconnection: CLOSE\r\n\r\nGET /bytes/3 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"},
		{"POST / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"GET /" + strings.Repeat("x", 5000), ""},
	} {
		conn, err := net.Dial("tcp", s.TCP)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, c.in)
		got, _ := io.ReadAll(conn) // a reset is as good as an end
		first, _, _ := strings.Cut(string(got), "\r\n")
		if first != c.want || strings.Count(string(got), "HTTP/1.1") > 1 {
			t.Errorf("%.40q: got %q; want %q, once, and the end", c.in, got, c.want)
		}
		conn.Close()
	}
}

func TestParse(t *testing.T) {
	whole := "GET /bytes/1024 HTTP/1.1\r\nHost: a\r\nX-Connection: close\r\n\r\n"
	for i := range len(whole) {
		if _, n, err := parse([]byte(whole[:i])); n != 0 || err != nil {
			t.Fatalf("%d bytes of a request: n = %d, %v", i, n, err)
		}
	}
	r, n, err := parse([]byte(whole + "GET"))
	if string(r.path) != "/bytes/1024" || n != len(whole) || err != nil || r.close {
		t.Errorf("parse = %q, close %v, %d, %v", r.path, r.close, n, err)
	}
	_, _, err = parse([]byte("GET / HTTP/1.0\r\n\r\n"))
	if err == nil || err.Error() != `request line (got "GET / HTTP/1.0"); want GET /bytes/N HTTP/1.1` {
		t.Errorf("HTTP/1.0: %v", err)
	}
	for path, want := range map[string]int{"/bytes/0": 0, "/bytes/16777216": MaxBody, "/bytes/16777217": -1, "/x/bytes/12": 12, "/bytes/": -1, "/bytes/1x": -1, "/x": -1, "/bytes/999999999": -1} {
		if got := bodySize([]byte(path)); got != want {
			t.Errorf("bodySize(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestAnswersDoNotAllocate(t *testing.T) {
	w := &worker{server: &Server{}, answers: make(map[int]*answer), texts: make(map[int]*answer), now: time.Now()}
	for _, path := range []string{"/bytes/1024", "/text/1024"} {
		in := []byte("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		n := testing.AllocsPerRun(100, func() {
			r, _, _ := parse(in)
			w.respond(r)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations an answer, want none", path, n)
		}
	}
}

// Text compresses as text does, and is the same each time.
func TestText(t *testing.T) {
	s := serve(t, 2)
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer c.CloseIdleConnections()
	_, text := get(t, c, "http://"+s.TCP+"/text/102400")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(text)
	_ = w.Close()
	if len(text) != 102400 || packed.Len() < len(text)/4 || packed.Len() > len(text)/5*2 {
		t.Errorf("%d bytes of text come to %d with gzip; want 102400, and a fourth to two fifths of it", len(text), packed.Len())
	}
	again := make([]byte, 102400)
	if prose(again); !bytes.Equal(text, again) {
		t.Error("it is not always the same")
	}
}

// What is sent to the sink comes to nothing, and the connection stays.
func TestSink(t *testing.T) {
	s := serve(t, 1)
	c, err := net.Dial("tcp", s.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := bytes.Repeat([]byte("GET /bytes/1 HTTP/1.1\r\n\r\n"), 20000)
	if _, err := c.Write(append([]byte("POST /sink HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n"), body...)); err != nil {
		t.Fatal(err)
	}
	if _, _ = get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+s.TCP+"/bytes/5"); t.Failed() {
		return
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("the sink answered %q, %v", got, err)
	}
}
