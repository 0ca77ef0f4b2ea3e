package proxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// renames changes header fields on both ways.
type renames struct{}

func (renames) Name() string { return "renames" }

func (renames) FilterRequest(r *filter.Request) bool {
	r.Header.DelName([]byte("User-Agent"))
	r.Header.AddName([]byte("X-Late"), []byte("of the filter"))
	return false
}

func (renames) FilterResponse(_ *filter.Request, resp *message.Response) {
	resp.Header.DelName([]byte("X-Cache"))
	resp.Header.AddName([]byte("X-Cache"), []byte("FILTERED"))
}

// Header fields are logged as the client sent them and as it gets them, also of the gateway's own
// answers.
func TestLoggedHeaders(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		var fields []telemetry.LogField
		for _, name := range []string{"user_agent", "referer", "header.X-Late", "header.X-Two", "response_header.X-Cache"} {
			f, err := telemetry.ParseLogField(name)
			if err != nil {
				t.Fatal(err)
			}
			fields = append(fields, f)
		}
		file := filepath.Join(t.TempDir(), "access.log")
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}, logFile: file, log: telemetry.AccessLogOptions{Fields: fields}}
		s.routes = func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, Filters: filter.Compile(renames{})}}
		}
		origin := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				c.Send(proxytest.Response("200 OK", "x", "X-Cache: HIT"))
			}
		})
		g := start(t, s, origin)
		ask(g, wish{fields: []string{`User-Agent: a "quoted" one`, "Referer: https://b.example/", "X-Two: 1", "x-two: 2"}})
		ask(g, wish{path: "/none"})
		g.close()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		want(t, "lines", len(lines), 2)
		contains(t, "the first line", lines[0], `"user_agent":"a \"quoted\" one","referer":"https://b.example/","header.X-Late":"","header.X-Two":"1, 2","response_header.X-Cache":"FILTERED"}`)
		contains(t, "the second line", lines[1], `"user_agent":"","referer":"","header.X-Late":"","header.X-Two":"","response_header.X-Cache":"FILTERED"}`)
	})
}

func TestLoggedCombined(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		file := filepath.Join(t.TempDir(), "access.log")
		g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}, logFile: file, log: telemetry.AccessLogOptions{Format: telemetry.FormatCombined}}, plain.origin(t, proxytest.Echo))
		r := ask(g, wish{path: "/a?b=1", fields: []string{"User-Agent: test", "Referer: https://b.example/"}})
		g.close()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "the log", string(text), "127.0.0.1 - - [", `] "GET /a?b=1 HTTP/`, `" 200 `, ` "https://b.example/" "test"`+"\n")
		want(t, "status", r.status, 200)
	})
}

// A route may have no lines, or only those of errors.
func TestLoggedRoutes(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		origin := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				status := "200 OK"
				if strings.HasSuffix(r.Target, "/missing") {
					status = "404 Not Found"
				}
				c.Send(proxytest.Response(status, "x"))
			}
		})
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
		s.routes = func(b *backend.Backend) (list []proxy.Route) {
			for name, logged := range map[string]telemetry.Logged{"all": telemetry.LoggedAll, "none": telemetry.LoggedNone, "errors": telemetry.LoggedErrors} {
				r := proxy.Route{Name: name, Action: &proxy.Forward{Backend: b}, Logged: logged}
				r.Match.Paths = []string{"/" + name + "/*"}
				list = append(list, r)
			}
			return list
		}
		g := start(t, s, origin)
		for _, path := range []string{"/none/a", "/none/missing", "/errors/a", "/errors/missing", "/all/a", "/nowhere"} {
			ask(g, wish{path: path})
		}
		var got []string
		for _, line := range g.lines() {
			got = append(got, line.Path)
		}
		want(t, "lines", strings.Join(got, " "), "/errors/missing /all/a /nowhere")
	})
}
