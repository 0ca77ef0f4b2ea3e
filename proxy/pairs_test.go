package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// dump is what an origin says of a request, without what must differ between exchanges.
func dump(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", r.Method, r.Host, r.RequestURI)
	list := func(h http.Header) {
		var lines []string
		for name, values := range h {
			switch name {
			case "X-Request-Id", "Cdn-Loop", "Te", "Connection", "Transfer-Encoding":
				continue
			}
			lines = append(lines, fmt.Sprintf("%s: %q\n", name, values))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	list(r.Header)
	fmt.Fprintf(&b, "%d %d %v\n", r.ContentLength, len(body), err)
	b.Write(body[:min(100, len(body))])
	b.WriteByte('\n')
	list(r.Trailer)
	return b.String()
}

// plainServer runs a server of net/http that speaks HTTP/1 and HTTP/2 without TLS.
func plainServer(t testing.TB, serve http.HandlerFunc) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &p, Handler: serve}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

// pairOrigin answers with what it was asked, in HTTP/1 or HTTP/2.
func pairOrigin(t testing.TB) string {
	t.Helper()
	return plainServer(t, func(w http.ResponseWriter, r *http.Request) {
		said := dump(r)
		h := w.Header()
		h.Set("Date", "Tue, 24 Nov 2026 00:00:00 GMT")
		h["Set-Cookie"] = []string{"a=1", "b=2"}
		switch r.URL.Path {
		case "/early":
			h.Set("Link", "</a.css>")
			w.WriteHeader(103)
			h.Del("Link")
		case "/none":
			w.WriteHeader(204)
			return
		case "/same":
			h.Set("Etag", `"x"`)
			w.WriteHeader(304)
			return
		case "/length":
			h.Set("Content-Length", fmt.Sprint(len(said)))
		case "/big":
			for range 64 {
				_, _ = w.Write(bytes.Repeat([]byte{'x'}, 32<<10))
			}
			return
		case "/trailers":
			h.Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, said)
			w.(http.Flusher).Flush()
			h.Set("X-Sum", "7")
			return
		}
		_, _ = io.WriteString(w, said)
	})
}

func pairClient(t testing.TB, two bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!two)
	p.SetUnencryptedHTTP2(two)
	tr := &http.Transport{Protocols: &p, TLSClientConfig: &tls.Config{}, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// pairRequests are made in each pairing.
var pairRequests = []struct {
	name, method, path string
	body               string
	chunked            bool
	header, trailer    http.Header
}{
	{name: "get", method: "GET", path: "/a/./b?x=1&y"},
	{name: "head", method: "HEAD", path: "/length"},
	{name: "length", method: "GET", path: "/length"},
	{name: "options of all", method: "OPTIONS", path: "*"},
	{name: "post", method: "POST", path: "/", body: "hello"},
	{name: "empty post", method: "POST", path: "/"},
	{name: "chunked", method: "PUT", path: "/", body: "hello", chunked: true},
	{name: "trailers up", method: "POST", path: "/", body: "hello", chunked: true, trailer: http.Header{"X-Up": {"1"}}},
	{name: "trailers down", method: "GET", path: "/trailers", header: http.Header{"Te": {"trailers"}}},
	{name: "large up", method: "POST", path: "/", body: strings.Repeat("x", 3<<20)},
	{name: "large down", method: "GET", path: "/big"},
	{name: "cookies", method: "GET", path: "/", header: http.Header{"Cookie": {"a=1; b=2; c=3"}}},
	{name: "fields", method: "GET", path: "/", header: http.Header{"X-A": {"1", "2"},
		"X-Long": {strings.Repeat("y", 9000)}, "X-Empty": {""}}},
	{name: "connection fields", method: "GET", path: "/", header: http.Header{"Proxy-Authorization": {"x"},
		"Keep-Alive": {"1"}}},
	{name: "early hints", method: "GET", path: "/early"},
	{name: "no content", method: "GET", path: "/none"},
	{name: "not modified", method: "GET", path: "/same"},
}

// What goes in as HTTP/1 or HTTP/2 comes out as the same message, in either; and so back.
func TestPairingsCarryTheSameMessages(t *testing.T) {
	origin := pairOrigin(t)
	var front [2][2]string // client, server: the address
	for s, protocol := range []backend.Protocol{backend.HTTP1, backend.HTTP2} {
		g := startBefore(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
			backend: backend.Options{Protocol: protocol}}, origin)
		front[0][s], front[1][s] = g.addr, g.addr
	}
	clients := [2]*http.Client{pairClient(t, false), pairClient(t, true)}
	for _, c := range pairRequests {
		t.Run(c.name, func(t *testing.T) {
			var want string
			for client := range 2 {
				for server := range 2 {
					name := fmt.Sprintf("h%d to h%d", client+1, server+1)
					if client == 1 && c.header["Keep-Alive"] != nil {
						// The other would be malformed there.
						c.header = http.Header{"Proxy-Authorization": {"x"}}
					}
					got := pairExchange(t, clients[client], front[client][server], c.method, c.path, c.body,
						c.chunked, c.header, c.trailer)
					got = strings.ReplaceAll(got, front[client][server], "HOST")
					if want == "" {
						want = got
					}
					if got != want {
						t.Errorf("%s:\n%s\nwant, as from h1 to h1:\n%s", name, got, want)
					}
				}
			}
		})
	}
}

func pairExchange(t *testing.T, c *http.Client, addr, method, path, body string, chunked bool, header,
	trailer http.Header) string {
	t.Helper()
	var b strings.Builder
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			fmt.Fprintf(&b, "%d %v\n", code, h)
			return nil
		},
	})
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	if chunked {
		from = io.MultiReader(from) // of unknown length
	}
	target := path
	if path == "*" {
		target = "/"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+target, from)
	if err != nil {
		t.Fatal(err)
	}
	if path == "*" {
		req.URL.Path, req.URL.Opaque = "*", ""
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "test")
	req.Trailer = trailer
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%d %d\n", resp.StatusCode, resp.ContentLength)
	var lines []string
	for name, values := range resp.Header {
		if name == "Connection" || name == "Content-Length" {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %q\n", name, values))
	}
	slices.Sort(lines)
	fmt.Fprintf(&b, "%s%s%d %v\n", strings.Join(lines, ""), got[:min(len(got), 12000)], len(got), resp.Trailer)
	return b.String()
}
