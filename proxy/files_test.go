package proxy_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/route"
)

// tree makes files in a directory of its own.
func tree(t testing.TB, list map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range list {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// filesRoute is a route with files; fallback says whether the backend has what no file is.
func filesRoute(t testing.TB, o files.Options, fallback bool) func(b *backend.Backend) []proxy.Route {
	t.Helper()
	root, err := files.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return func(b *backend.Backend) []proxy.Route {
		f := &proxy.Files{Root: root}
		if fallback {
			f.Fallback = &proxy.Forward{Backend: b}
		}
		return []proxy.Route{{Name: "all", Action: f, KeepEncodedSlash: true}}
	}
}

// nowhere is a server that no request comes to.
const nowhere = "127.0.0.1:1"

// sparse makes a large file of zeros.
func sparse(t testing.TB, name string, size int64) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

// protocolClients are clients of net/http that follow no redirect and decode nothing.
func protocolClients(t testing.TB) map[string]*http.Client {
	list := map[string]*http.Client{}
	for _, name := range []string{"h1", "h2"} {
		p := new(http.Protocols)
		p.SetHTTP1(name == "h1")
		p.SetUnencryptedHTTP2(name == "h2")
		transport := &http.Transport{Protocols: p, DisableCompression: true}
		t.Cleanup(transport.CloseIdleConnections)
		list[name] = &http.Client{
			Transport: transport, Timeout: proxytest.Patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return list
}

// ask makes a request; fields are "Name: value".
func ask(t testing.TB, c *http.Client, method, url string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, string(b)
}

func TestFiles(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000) // sent by sendfile
	root := tree(t, map[string]string{
		"index.html": "home", "a/index.html": "a", "a b/index.html": "space", "x.txt": "0123456789", "big.bin": big, "empty.css": "",
		"c.js": "plain", "c.js.gz": "gzip!", "c.js.zst": "zstd!", ".env": "secret",
	})
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(root, "x.txt"), at, at); err != nil {
		t.Fatal(err)
	}
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = filesRoute(t, files.Options{Root: root, Index: "index.html", Precompressed: true}, false)
	g := startBefore(t, s, nowhere)
	base := "http://" + g.addr
	const dated = "Mon, 06 May 2024 07:08:09 GMT"
	for name, c := range protocolClients(t) {
		first, _ := ask(t, c, "GET", base+"/x.txt")
		tag := first.Header.Get("ETag")
		for _, tt := range []struct {
			request string
			fields  string // separated by "|"
			status  int
			body    string // "-": not looked at
			want    string // fields, separated by "|"; a value of "" must not be there
		}{
			{"GET /", "", 200, "home", "Content-Type: text/html; charset=utf-8|X-Content-Type-Options: nosniff|Accept-Ranges: bytes|Vary: Accept-Encoding"},
			{"GET /x.txt", "", 200, "0123456789", "Last-Modified: " + dated + "|Content-Length: 10|Content-Encoding: |Cache-Control: "},
			{"HEAD /x.txt", "", 200, "", "Content-Length: 10|Content-Type: text/plain; charset=utf-8|ETag: " + tag},
			{"HEAD /x.txt", "Range: bytes=0-1", 200, "", "Content-Length: 10|Content-Range: "},
			{"GET /big.bin", "", 200, big, "Content-Length: 320000|Content-Type: application/octet-stream"},
			{"GET /empty.css", "", 200, "", "Content-Length: 0|Content-Type: text/css; charset=utf-8"},
			{"GET /empty.css", "Range: bytes=0-", 416, "-", "Content-Range: bytes */0"},
			{"GET /none", "", 404, "-", "Cache-Control: no-store"},
			{"GET /.env", "", 404, "-", ""},
			{"GET /a%2findex.html", "", 404, "-", ""},
			{"GET /a", "", 301, "-", "Location: ./a/"},
			{"GET /a?x=1&y", "", 301, "-", "Location: ./a/?x=1&y"},
			{"GET /a%20b", "", 301, "-", "Location: ./a%20b/"},
			{"HEAD /a", "", 301, "", "Location: ./a/"},
			{"GET /a/", "", 200, "a", ""},
			{"OPTIONS /x.txt", "", 204, "", "Allow: GET, HEAD, OPTIONS"},
			{"POST /x.txt", "", 405, "-", "Allow: GET, HEAD, OPTIONS"},
			{"DELETE /none", "", 405, "-", "Allow: GET, HEAD, OPTIONS"},
			{"TRACE /x.txt", "", 405, "-", "Allow: GET, HEAD, OPTIONS"},
			// Conditions.
			{"GET /x.txt", "If-None-Match: " + tag, 304, "", "ETag: " + tag + "|Vary: Accept-Encoding|Content-Type: |Content-Length: "},
			{"HEAD /x.txt", "If-None-Match: " + tag, 304, "", "ETag: " + tag},
			{"GET /x.txt", "If-None-Match: \"x\", W/" + tag, 304, "", ""},
			{"GET /x.txt", "If-None-Match: \"x\"", 200, "0123456789", ""},
			{"GET /x.txt", "If-Modified-Since: " + dated, 304, "", "Last-Modified: " + dated},
			{"GET /x.txt", "If-Match: \"x\"", 412, "-", ""},
			{"GET /x.txt", "If-Match: " + tag, 200, "0123456789", ""},
			{"GET /x.txt", "If-Unmodified-Since: Mon, 06 May 2024 07:08:08 GMT", 412, "-", ""},
			// Ranges.
			{"GET /x.txt", "Range: bytes=2-4", 206, "234", "Content-Range: bytes 2-4/10|Content-Length: 3|ETag: " + tag + "|Content-Type: text/plain; charset=utf-8"},
			{"GET /x.txt", "Range: bytes=-3", 206, "789", "Content-Range: bytes 7-9/10"},
			{"GET /x.txt", "Range: bytes=8-100", 206, "89", "Content-Range: bytes 8-9/10"},
			{"GET /x.txt", "Range: bytes=10-", 416, "-", "Content-Range: bytes */10"},
			{"GET /x.txt", "Range: bytes=x", 200, "0123456789", "Content-Range: "},
			{"GET /x.txt", "Range: bytes=0-0|If-Range: " + tag, 206, "0", ""},
			{"GET /x.txt", "Range: bytes=0-0|If-Range: \"x\"", 200, "0123456789", ""},
			{"GET /x.txt", "Range: bytes=0-0|If-Range: " + dated, 206, "0", ""},
			{"GET /x.txt", "Range: bytes=0-0|If-None-Match: " + tag, 304, "", ""},
			{"GET /big.bin", "Range: bytes=100000-299999", 206, big[100000:300000], "Content-Length: 200000"},
			// Precompressed.
			{"GET /c.js", "", 200, "plain", "Vary: Accept-Encoding|Content-Encoding: "},
			{"GET /c.js", "Accept-Encoding: gzip", 200, "gzip!", "Vary: Accept-Encoding|Content-Encoding: gzip|Content-Type: text/javascript; charset=utf-8|Content-Length: 5"},
			{"GET /c.js", "Accept-Encoding: gzip, zstd", 200, "zstd!", "Content-Encoding: zstd"},
			{"GET /c.js", "Accept-Encoding: gzip, zstd;q=0", 200, "gzip!", "Content-Encoding: gzip"},
			{"GET /c.js", "Accept-Encoding: gzip|Range: bytes=4-", 206, "!", "Content-Encoding: gzip|Content-Range: bytes 4-4/5"},
			{"HEAD /c.js", "Accept-Encoding: gzip", 200, "", "Content-Encoding: gzip|Content-Length: 5"},
		} {
			method, path, _ := strings.Cut(tt.request, " ")
			var fields []string
			if tt.fields != "" {
				fields = strings.Split(tt.fields, "|")
			}
			resp, body := ask(t, c, method, base+path, fields...)
			what := name + " " + tt.request + " " + tt.fields
			want(t, what+": status", resp.StatusCode, tt.status)
			if tt.body != "-" && body != tt.body {
				t.Errorf("%s: %.60q, want %.60q", what, body, tt.body)
			}
			for _, f := range strings.Split(tt.want, "|") {
				if field, value, ok := strings.Cut(f, ": "); ok {
					want(t, what+": "+field, resp.Header.Get(field), value)
				}
			}
		}
		c.CloseIdleConnections()
	}
	for _, l := range g.lines() {
		if end := l.End; end != "ok" {
			t.Errorf("end %s of %s %s", end, l.Method, l.Path)
		}
		if l.Path == "/big.bin" && l.Status == 200 {
			want(t, "bytes_out", int(l.BytesOut), 320000)
		}
	}
}

// Several ranges are parts of a multipart body, of the length that the head says.
func TestFilesMultipart(t *testing.T) {
	text := strings.Repeat("0123456789", 20_000)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = filesRoute(t, files.Options{Root: tree(t, map[string]string{"f.txt": text})}, false)
	g := startBefore(t, s, nowhere)
	for name, c := range protocolClients(t) {
		resp, body := ask(t, c, "GET", "http://"+g.addr+"/f.txt", "Range: bytes=0-4, 100-99999,-3")
		want(t, name+" status", resp.StatusCode, 206)
		want(t, name+" Content-Range", resp.Header.Get("Content-Range"), "")
		want(t, name+" Content-Length", resp.Header.Get("Content-Length"), strconv.Itoa(len(body)))
		kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/byteranges" {
			t.Fatal(kind, err)
		}
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for _, part := range []struct{ at, text string }{
			{"bytes 0-4/200000", text[:5]}, {"bytes 100-99999/200000", text[100:100000]}, {"bytes 199997-199999/200000", text[199997:]},
		} {
			p, err := r.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(p)
			if string(b) != part.text || p.Header.Get("Content-Range") != part.at || p.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: part %v has %d bytes, want %d", name, p.Header, len(b), len(part.text))
			}
		}
		if _, err := r.NextPart(); err != io.EOF {
			t.Errorf("%s: after the last part: %v", name, err)
		}
	}
}

// In every mode the bytes are those of the file, also for a slow reader, and the connection
// continues.
func TestFilesInEveryMode(t *testing.T) {
	body := make([]byte, 3<<20)
	for i := range body {
		body[i] = byte(i * i >> 7)
	}
	root := tree(t, map[string]string{"f": string(body)})
	eachMode(t, func(t *testing.T, m mode) {
		s := setup{mode: m}
		s.routes = filesRoute(t, files.Options{Root: root}, false)
		g := startBefore(t, s, nowhere)
		c := g.client()
		for range 2 {
			a := c.Get("/f")
			want(t, "status", a.Status, 200)
			if sha256.Sum256([]byte(a.Body)) != sha256.Sum256(body) {
				t.Errorf("%d bytes that are not those of the file", len(a.Body))
			}
		}
		want(t, "status of nothing", c.Get("/none").Status, 404)
	})
}

// With a backend as the fallback files come first; the backend gets what is not a file, and all
// that does not read.
func TestFilesThenBackend(t *testing.T) {
	o := plain.origin(t, proxytest.Echo)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = filesRoute(t, files.Options{Root: tree(t, map[string]string{"f": "file", "d/index.html": "index"}), Index: "index.html"}, true)
	g := start(t, s, o)
	for name, c := range protocolClients(t) {
		for request, body := range map[string]string{
			"GET /f": "file", "GET /d/": "index", "GET /none": "GET /none ", "POST /f": "POST /f ", "GET /.git": "GET /.git ", "OPTIONS /f": "OPTIONS /f ",
			"GET /": "GET / ",
		} {
			method, path, _ := strings.Cut(request, " ")
			_, got := ask(t, c, method, "http://"+g.addr+path)
			want(t, name+" "+request, got, body)
		}
	}
}

// A redirect to a directory never leads to another host, whatever the path looks like.
func TestFilesRedirectStaysHere(t *testing.T) {
	root, err := files.New(files.Options{Root: tree(t, map[string]string{"evil.example/index.html": "x", "a:b/index.html": "x"}), Index: "index.html"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(*backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Files{Root: root}, KeepSlashes: true, KeepEncodedSlash: true}}
	}
	g := startBefore(t, s, nowhere)
	for target, location := range map[string]string{
		"/evil.example": "./evil.example/", "//evil.example": "", "/%2Fevil.example": "", "/%5Cevil.example": "", "//evil.example/..": "",
		"/a:b": "./a:b/", "/evil.example?//x": "./evil.example/?//x",
	} {
		bothVersions(t, g, request{target: target}, func(version string, a answer) {
			what := version + " " + target
			if location == "" {
				lacks(t, what, a.head, "location:")
				if a.status != 404 && a.status != 400 {
					t.Errorf("%s is answered with %d", what, a.status)
				}
				return
			}
			contains(t, what, a.head, "location: "+location+"\n")
		})
	}
}

// The index of a directory whose path is stripped is behind a slash too, so that relative links in
// it lead into the directory.
func TestFilesBelowAPath(t *testing.T) {
	root, err := files.New(files.Options{Root: tree(t, map[string]string{"index.html": "home", "a/index.html": "a", "f": "file"}), Index: "index.html"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = func(*backend.Backend) []proxy.Route {
		return []proxy.Route{{
			Name: "docs", Match: route.Match{Paths: []string{"/docs/*", "/x/y/*"}}, Action: &proxy.Files{Root: root}, Filters: filter.Compile(rewriteTo(t, "/*")),
		}}
	}
	g := startBefore(t, s, nowhere)
	for target, want := range map[string]string{
		"/docs": "./docs/", "/docs?q=1": "./docs/?q=1", "/x/y": "./y/", "/docs/": "home", "/docs/a": "./a/", "/docs/a/": "a", "/docs/f": "file", "//docs": "./docs/",
	} {
		bothVersions(t, g, request{target: target}, func(version string, a answer) {
			if strings.HasPrefix(want, ".") {
				contains(t, version+" "+target, a.head, "location: "+want+"\n")
			} else if a.status != 200 || a.body != want {
				t.Errorf("%s %s: %d %q", version, target, a.status, a.body)
			}
		})
	}
}

// A file that becomes shorter while it is sent breaks the response off: it is not padded, and does
// not look complete.
func TestFileTruncatedWhileSent(t *testing.T) {
	for _, m := range []mode{modes[0], modes[4]} { // by sendfile, and through TLS
		t.Run(m.name, func(t *testing.T) {
			root := tree(t, nil)
			name := filepath.Join(root, "f")
			sparse(t, name, 64<<20)
			s := setup{mode: m}
			s.routes = filesRoute(t, files.Options{Root: root}, false)
			g := startBefore(t, s, nowhere)
			c := g.client()
			c.Send("GET /f HTTP/1.1\r\n" + host + "\r\n")
			a := c.ReadHead()
			want(t, "Content-Length", a.Header("Content-Length"), strconv.Itoa(64<<20))
			if err := os.Truncate(name, 1000); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, c.R)
			if n >= 64<<20 {
				t.Errorf("%d bytes of a file that was truncated", n)
			}
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the connection is still open")
			}
			line := g.log.Next()
			want(t, "end", line.End, "internal")
			contains(t, "reason", line.Reason, "file")
		})
	}
}

// Over HTTP/2 the stream is reset, and others go on.
func TestFileTruncatedWhileSentOverHTTP2(t *testing.T) {
	root := tree(t, map[string]string{"ok": "ok"})
	name := filepath.Join(root, "f")
	sparse(t, name, 64<<20)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = filesRoute(t, files.Options{Root: root}, false)
	g := startBefore(t, s, nowhere)
	c := protocolClients(t)["h2"]
	resp, err := c.Get("http://" + g.addr + "/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 1000); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("a truncated file looks complete with %d bytes", n)
	}
	if _, body := ask(t, c, "GET", "http://"+g.addr+"/ok"); body != "ok" {
		t.Errorf("another stream gets %q", body)
	}
}

// A client that leaves within a file ends the exchange, and the file is closed.
func TestClientLeavesFile(t *testing.T) {
	root := tree(t, nil)
	sparse(t, filepath.Join(root, "f"), 64<<20)
	for _, m := range []mode{modes[0], modes[4]} {
		s := setup{mode: m}
		s.routes = filesRoute(t, files.Options{Root: root}, false)
		g := startBefore(t, s, nowhere)
		c := g.client()
		c.Send("GET /f HTTP/1.1\r\n" + host + "\r\n")
		c.ReadHead()
		c.Reset()
		want(t, m.name+": end", g.log.Next().End, "client_gone")
	}
}

// A request body that nobody wants does not become a request.
func TestFilesRequestBody(t *testing.T) {
	s := setup{mode: plain}
	s.routes = filesRoute(t, files.Options{Root: tree(t, map[string]string{"f": "file"})}, false)
	g := startBefore(t, s, nowhere)
	c := g.client()
	smuggled := "GET /none HTTP/1.1\r\n\r\n"
	c.Send(fmt.Sprintf("GET /f HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", host, len(smuggled), smuggled))
	want(t, "body", c.Answer().Body, "file")
	want(t, "next", c.Get("/f").Body, "file")
}

// All that a client may ask costs few allocations.
func TestFilesAllocateLittle(t *testing.T) {
	s := setup{mode: plain, noLog: true}
	s.routes = filesRoute(t, files.Options{Root: tree(t, map[string]string{"f": strings.Repeat("x", 100<<10)})}, false)
	g := startBefore(t, s, nowhere)
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET /f HTTP/1.1\r\nHost: a.example\r\n\r\n")
	r := bufio.NewReaderSize(c, 256<<10)
	once := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				t.Fatal(err)
			}
			if len(line) == len("\r\n") {
				break
			}
		}
		if _, err := r.Discard(100 << 10); err != nil {
			t.Fatal(err)
		}
	}
	once()
	if n := testing.AllocsPerRun(50, once); n > 12 && !raceEnabled {
		t.Errorf("%v allocations a request, want at most 12", n)
	}
}
