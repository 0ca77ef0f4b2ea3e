package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/route"
	"mpgate/proxy/split"
	"mpgate/proxy/template"
)

// accelApp redirects to what the field To of the request says.
func accelApp(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	h := w.Header()
	if r.URL.Path == "/protected/far/x" { // as the internal route forwards it
		h["X-Accel-Redirect"] = r.Header["Then"]
		h["Content-Type"] = nil
		if t := r.Header.Get("Far-Type"); t != "" {
			h.Set("Content-Type", t)
		}
		fmt.Fprintf(w, "far: %s %s %d %q", r.Method, r.URL, r.ContentLength, r.Header.Get("Content-Type"))
		return
	}
	for name, values := range r.Header {
		if field, ok := strings.CutPrefix(name, "Answer-"); ok {
			h[field] = values
		}
	}
	h["X-Accel-Redirect"] = r.Header["To"]
	h.Set("X-Accel-Limit-Rate", "100")
	h.Set("X-Seen", strings.Join([]string{r.Header.Get("X-Sendfile-Type"), r.Header.Get("X-Accel-Mapping")}, "/"))
	if r.Header.Get("Early") != "" {
		w.WriteHeader(103)
	}
	w.WriteHeader(200)
	_, _ = io.WriteString(w, "from the application")
}

// accelRoutes are a route whose server redirects, one for internal files, one for an internal
// server, and one that follows no redirects.
func accelRoutes(t testing.TB, root string, inner ...filter.Filter) func(b *backend.Backend) []proxy.Route {
	r, err := files.New(files.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	rewrite, err := filter.NewRewrite("/*", filter.RewriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	value, _ := template.Parse("{path}")
	path := filter.NewResponseHeaders([]filter.FieldEdit{{Name: "X-Path", Values: []template.Template{value}}})
	return func(b *backend.Backend) []proxy.Route {
		forward := &proxy.Forward{Backend: b}
		weights, err := split.New([]split.Choice{{Name: "pool", Weight: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return []proxy.Route{
			{Name: "app", Action: forward, AccelRedirect: true, Filters: filter.Compile(filter.Accel{}, path)},
			{Name: "plain", Match: route.Match{Paths: []string{"/plain/*"}}, Action: forward},
			{Name: "files", Match: route.Match{Paths: []string{"/protected/*"}}, Internal: true,
				Action: &proxy.Files{Root: r}, Filters: filter.Compile(append([]filter.Filter{rewrite}, inner...)...)},
			{Name: "far", Match: route.Match{Paths: []string{"/protected/far/*"}}, Internal: true, Action: &proxy.Split{
				Choices: []proxy.Choice{{Action: forward}}, Weights: weights}},
			{Name: "gone", Match: route.Match{Paths: []string{"/gone"}}, Internal: true, Action: &proxy.Fixed{Status: 410}},
		}
	}
}

func startAccel(t *testing.T, inner ...filter.Filter) (*gateway, string) {
	app := httptest.NewServer(http.HandlerFunc(accelApp))
	t.Cleanup(app.Close)
	root := tree(t, map[string]string{"a.txt": "0123456789", "b c.bin": "spaced", "sub/x;y.txt": "semicolon"})
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = accelRoutes(t, root, inner...)
	return startBefore(t, s, app.Listener.Addr().String()), root
}

func TestAccelRedirect(t *testing.T) {
	g, _ := startAccel(t)
	base := "http://" + g.addr
	for name, c := range protocolClients(t) {
		for _, tt := range []struct {
			request string
			fields  string // separated by "|"
			status  int
			body    string // "-": not looked at
			want    string // fields, separated by "|"; a value of "" must not be there
		}{
			{"GET /x", "To: /protected/a.txt", 200, "0123456789", "Content-Type: text/plain; charset=utf-8|Content-Length: 10|Accept-Ranges: bytes|" +
				"X-Accel-Redirect: |X-Accel-Limit-Rate: |X-Seen: |X-Path: /x|X-Content-Type-Options: nosniff"},
			{"HEAD /x", "To: /protected/a.txt", 200, "", "Content-Length: 10"},
			{"POST /x", "To: /protected/a.txt", 200, "0123456789", ""},
			{"DELETE /x", "To: /protected/a.txt?v=1", 200, "0123456789", ""},
			{"GET /x", "To: /protected/b c.bin", 200, "spaced", ""},
			{"GET /x", "To: /protected/b%20c.bin", 200, "spaced", ""},
			{"GET /x", "To: /protected/sub/x;y.txt", 200, "semicolon", ""},
			// What the application says about the file.
			{"GET /x", "To: /protected/a.txt|Answer-Content-Type: application/pdf|Answer-Content-Disposition: attachment|Answer-Cache-Control: private|" +
				"Answer-Expires: 0|Answer-Accept-Ranges: none|Answer-Set-Cookie: a=1|Answer-Etag: \"app\"|Answer-Last-Modified: x|Answer-Content-Encoding: gzip|Answer-X-Other: 1",
				200, "0123456789", "Content-Type: application/pdf|Content-Disposition: attachment|Cache-Control: private|Expires: 0|Accept-Ranges: none|" +
					"Set-Cookie: a=1|Content-Encoding: |X-Other: |Content-Length: 10"},
			{"GET /x", "To: /protected/none|Answer-Content-Type: application/pdf|Answer-Content-Disposition: attachment|Answer-Cache-Control: public|Answer-Set-Cookie: a=1",
				404, "-", "Content-Type: text/plain; charset=utf-8|Content-Disposition: |Cache-Control: no-store|Set-Cookie: a=1|X-Path: /x"},
			{"GET /x", "To: /gone", 410, "-", "Cache-Control: no-store"},
			// Ranges and conditions are about the file.
			{"GET /x", "To: /protected/a.txt|Range: bytes=2-3|Answer-Content-Type: a/b", 206, "23", "Content-Range: bytes 2-3/10|Content-Type: a/b"},
			{"GET /x", "To: /protected/a.txt|Range: bytes=20-", 416, "-", "Content-Range: bytes */10"},
			{"GET /x", "To: /protected/a.txt|If-None-Match: *|Answer-Content-Type: a/b|Answer-Cache-Control: private", 304, "", "Content-Type: |Cache-Control: private"},
			{"GET /x", "To: /protected/a.txt|If-Match: \"other\"", 412, "-", ""},
			// An internal route may forward.
			{"GET /x", "To: /protected/far/x?a=1", 200, `far: GET /protected/far/x?a=1 0 ""`, ""},
			{"PUT /x", "To: /protected/far/x|Answer-Content-Type: a/b|Content-Type: c/d", 200, `far: GET /protected/far/x 0 ""`, "Content-Type: a/b"},
			{"GET /x", "To: /protected/far/x|Answer-Content-Type: a/b|Far-Type: e/f", 200, `far: GET /protected/far/x 0 ""`, "Content-Type: e/f"},
			// Clients can neither ask for it, nor say how servers do.
			{"GET /protected/a.txt", "", 404, "-", "X-Path: "},
			{"GET /protected", "", 404, "-", ""},
			{"GET /Protected/a.txt", "", 200, "from the application", ""},
			{"GET /x/../protected/a.txt", "", 404, "-", ""},
			{"GET /protected%2fa.txt", "", 400, "-", ""},
			{"GET //protected/a.txt", "", 404, "-", ""},
			{"GET /x", "X-Sendfile-Type: X-Accel-Redirect|X-Accel-Mapping: /=/protected/", 200, "from the application", "X-Seen: /|X-Accel-Limit-Rate: "},
			{"GET /plain/x", "X-Accel-Redirect: /protected/a.txt|To: /protected/a.txt", 200, "from the application", "X-Accel-Redirect: /protected/a.txt"},
			{"GET /x", "Early: 1", 200, "from the application", ""},
			// What leads nowhere.
			{"GET /x", "To: /protected/a.txt|To: /protected/a.txt", 502, "-", "X-Accel-Redirect: |X-Seen: "},
			{"GET /x", "To: /protected/far/x|Then: /protected/a.txt", 502, "-", "X-Accel-Redirect: "},
			{"GET /x", "To: /x", 502, "-", ""},
			{"GET /x", "To: /plain/x", 502, "-", ""},
			{"GET /x", "To: protected/a.txt", 502, "-", ""},
			{"GET /x", "To: http://localhost/protected/a.txt", 502, "-", ""},
			{"GET /x", "To: //localhost/protected/a.txt", 502, "-", ""},
			{"GET /x", "To: /protected/far/../a.txt", 502, "-", ""},
			{"GET /x", "To: /protected/%2e%2e/a.txt", 502, "-", ""},
			{"GET /x", "To: /protected/..%2fa.txt", 502, "-", ""},
			{"GET /x", "To: /protected/sub%2fa.txt", 502, "-", ""},
			{"GET /x", "To: /protected/a%00.txt", 502, "-", ""},
			{"GET /x", "To: /protected/%zz", 502, "-", ""},
			{"GET /x", "To: @named", 502, "-", ""},
			{"GET /x", "To: ", 502, "-", ""},
		} {
			method, path, _ := strings.Cut(tt.request, " ")
			var list []string
			if tt.fields != "" {
				list = strings.Split(tt.fields, "|")
			}
			resp, body := ask(t, c, method, base+path, list...)
			if resp.StatusCode != tt.status || body != tt.body && tt.body != "-" {
				t.Errorf("%s: %s with %q got %d %q, want %d %q", name, tt.request, tt.fields, resp.StatusCode, body, tt.status, tt.body)
			}
			for _, f := range strings.Split(tt.want, "|") {
				field, value, _ := strings.Cut(f, ": ")
				if got := strings.Join(resp.Header[textproto.CanonicalMIMEHeaderKey(field)], ", "); f != "" && got != value {
					t.Errorf("%s: %s with %q got %s: %q, want %q", name, tt.request, tt.fields, field, got, value)
				}
			}
		}
	}
	contains(t, "the log", g.programLog.String(), "cannot be followed", "route=app", `the route \"plain\" is not internal`,
		"there are several", "the second one of the exchange", "has a dot segment", "contains an encoded slash")
}

// TestAccelRedirectUpload answers before the request's body is complete.
func TestAccelRedirectUpload(t *testing.T) {
	g, _ := startAccel(t)
	for _, length := range []int{10, 100_000} {
		c := g.client()
		defer c.Close()
		c.Send(fmt.Sprintf("POST /x HTTP/1.1\r\nHost: x\r\nTo: /protected/a.txt\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat("b", length)))
		if a := c.Answer(); a.Status != 200 || a.Body != "0123456789" {
			t.Fatalf("got %d %q", a.Status, a.Body)
		}
		if a := c.Get("/x"); a.Status != 200 || a.Body != "from the application" {
			t.Errorf("the next request got %d %q", a.Status, a.Body)
		}
	}
}

// TestAccelRedirectFilters sees the filters of both routes act, and end.
func TestAccelRedirectFilters(t *testing.T) {
	inner := &countingFilter{}
	g, root := startAccel(t, inner)
	c := protocolClients(t)["h1"]
	resp, body := ask(t, c, "GET", "http://"+g.addr+"/x", "To: /protected/a.txt", "Accept-Encoding: gzip")
	want(t, "body", body, "0123456789")
	want(t, "a field of the client's route", resp.Header.Get("X-Path"), "/x")
	want(t, "a field of the internal route", resp.Header.Get("X-Inner"), "/protected/a.txt GET true")
	line := g.log.Next()
	want(t, "route", line.Route, "app")
	want(t, "internal_route", line.InternalRoute, "files")
	want(t, "path", line.Path, "/x")
	want(t, "bytes_out", line.BytesOut, int64(10))
	inner.refuse.Store(true)
	if resp, _ := ask(t, c, "GET", "http://"+g.addr+"/x", "To: /protected/a.txt"); resp.StatusCode != 403 {
		t.Errorf("the filter of the internal route: %d", resp.StatusCode)
	}
	want(t, "filter", g.log.Next().Filter, "counting")
	if err := os.Remove(filepath.Join(root, "a.txt")); err != nil {
		t.Fatal(err)
	}
	g.close()
	want(t, "filters that ended", inner.ended.Load(), int64(2))
}

// countingFilter is a filter of an internal route.
type countingFilter struct {
	ended  atomic.Int64
	refuse atomic.Bool
}

func (*countingFilter) Name() string { return "counting" }

func (f *countingFilter) FilterRequest(r *filter.Request) bool {
	r.Fields.AddName([]byte("X-Inner"), fmt.Appendf(nil, "%s %s %t", r.Matched.Path, r.Method, r.Internal))
	return f.refuse.Load() && r.End(filter.Answer{Status: 403, Text: "no"})
}

func (f *countingFilter) FilterEnd(*filter.Request) { f.ended.Add(1) }
