package proxy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// An exchange has one exit and one log line, and a final head leaves at one place. What would be a
// second one shows in the source.
func TestOneExit(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	for _, call := range []string{"accessLog.Load().Log(", "meter.End(", "down.WriteHead(", "Filters.End("} {
		var found []string
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for range bytes.Count(text, []byte(call)) {
				found = append(found, name)
			}
		}
		if len(found) != 1 {
			t.Errorf("%s) is called in %v, want one place", call, found)
		}
	}
}

// probe is a filter that does something at every place of the pipeline.
type probe struct{ ended atomic.Int64 }

func (*probe) Name() string { return "probe" }

func (*probe) FilterRequest(r *filter.Request) bool {
	r.Fields.AddName([]byte("X-Seen"), []byte("request"))
	switch string(r.Path) {
	case "/denied":
		return r.End(filter.Answer{Status: 403, End: telemetry.EndBadRequest, Text: "denied by the probe"})
	case "/custom":
		return r.End(filter.Answer{Status: 200, End: telemetry.EndOK, Body: []byte("{}"), Type: "application/json"})
	}
	r.Header.AddName([]byte("X-Probe"), []byte("1"))
	return false
}

func (*probe) FilterRequestBody(r *filter.Request, src message.BodyReader) message.BodyReader {
	return &refusing{src}
}

// refusing refuses a body that contains "bad".
type refusing struct{ message.BodyReader }

func (b *refusing) Next(wait bool) ([]byte, error) {
	p, err := b.BodyReader.Next(wait)
	if bytes.Contains(p, []byte("bad")) {
		return nil, &message.Error{Status: 413, Reason: "a bad body"}
	}
	return p, err
}

func (*probe) FilterReplace(r *filter.Request, status int, own bool) bool {
	if status != 502 && status != 404 {
		return false
	}
	r.Answer = filter.Answer{Status: status, End: r.Answer.End, Body: []byte("replaced"), Type: "text/html"}
	if !own {
		r.Answer.End = telemetry.EndOK
	}
	return true
}

func (*probe) FilterResponse(r *filter.Request, resp *message.Response) {
	resp.Header.Del(message.Server)
	resp.Header.AddName([]byte("X-Response"), []byte("1"))
}

func (*probe) FilterBody(r *filter.Request, resp *message.Response, w message.BodyWriter) message.BodyWriter {
	if string(r.Path) != "/upper" {
		return w
	}
	return &upper{w}
}

// upper writes a body in capitals.
type upper struct{ message.BodyWriter }

func (u *upper) WriteBody(p []byte) error { return u.BodyWriter.WriteBody(bytes.ToUpper(p)) }

func (f *probe) FilterEnd(*filter.Request) { f.ended.Add(1) }

// Every place where a filter can act is real, over HTTP/1 in all modes.
func TestFilterSeams(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		f := new(probe)
		s := setup{mode: m}
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(f)}}
		}
		origin := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				status, body := "200 OK", "echo "+r.Body
				if r.Target == "/missing" {
					status = "404 Not Found"
				}
				if r.Header("X-Probe") != "1" {
					body = "not probed"
				}
				c.Send(proxytest.Response(status, body, "Server: secret"))
			}
		})
		g := start(t, s, origin)
		for _, tt := range []struct {
			request, body string
			status        int
			want          []string
		}{
			{"GET /x", "", 200, []string{"echo "}},
			{"POST /upper", "abc", 200, []string{"ECHO ABC"}},
			{"POST /x", "abc", 200, []string{"echo abc"}},
			{"GET /denied", "", 403, []string{"denied by the probe"}},
			{"GET /custom", "", 200, []string{"{}", "content-type: application/json\r\n"}},
			{"GET /missing", "", 404, []string{"replaced", "content-type: text/html\r\n"}},
			{"POST /x", "a bad body", 413, []string{"a bad body"}},
		} {
			c := g.client()
			c.Send(tt.request + " HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(tt.body)) +
				"\r\n\r\n" + tt.body)
			a := c.Answer()
			c.Close()
			want(t, tt.request+": status", a.Status, tt.status)
			all := strings.ToLower(a.Head) + a.Body
			contains(t, tt.request, all, append(tt.want, "x-seen: request\r\n", "x-response: 1\r\n")...)
			lacks(t, tt.request, all, "secret")
		}
		lines := g.lines()
		want(t, "log lines", len(lines), 7)
		want(t, "calls of FilterEnd", f.ended.Load(), 7)
	})
}
