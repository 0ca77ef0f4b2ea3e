package gateway

import (
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy/split"
)

// clientOf is an HTTP client over HTTP/1 or, with two, over HTTP/2 without TLS.
func clientOf(t testing.TB, two bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!two)
	p.SetUnencryptedHTTP2(two)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// askWith sends one request and returns the response and its body. fields are "Name: value".
func askWith(t testing.TB, c *http.Client, method, url string, fields ...string) (resp *http.Response, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	resp, err = c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// splitFile is a configuration whose route "all" divides requests.
func splitFile(web, log, backends, by string, servers map[string]string) string {
	file := strings.Replace(head, `access = "off"`, fmt.Sprintf("access = %q", log), 1) + "[shutdown]\ndrain = \"300ms\"\n" +
		listenerTable("web", web, "protocols = [\"h1\", \"h2c\"]\ntrusted_proxies = [\"127.0.0.1\"]") +
		fmt.Sprintf("[[route]]\nname = \"all\"\nbackend = %s\n%s\n", backends, by)
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		file += backendTable(name, servers[name], "")
	}
	return file
}

// Requests are divided by weight: at random, or by the client, who keeps its backend over reloads
// and of whom only some move when the shares change.
func TestSplit(t *testing.T) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", two), func(t *testing.T) {
			servers := map[string]string{"stable": named(t, "stable"), "canary": named(t, "canary")}
			web, log := proxytest.FreeAddress(t), filepath.Join(t.TempDir(), "access.log")
			r := startRig(t, splitFile(web, log, "{ stable = 80, canary = 20 }", "", servers), nil)
			c := clientOf(t, two)
			const n = 2000
			canary := func() (share float64, by []bool) {
				for i := range n {
					_, got := askWith(t, c, "GET", "http://"+web+"/", fmt.Sprintf("X-Forwarded-For: 192.0.%d.%d", i/200, i%200))
					if got != "stable" && got != "canary" {
						t.Fatalf("got %q", got)
					}
					by = append(by, got == "canary")
					if got == "canary" {
						share += 1.0 / n
					}
				}
				return share, by
			}
			near := func(name string, got, want float64) {
				// Five standard deviations of a binomial distribution.
				if tolerance := 5 * math.Sqrt(want*(1-want)/n); math.Abs(got-want) > tolerance {
					t.Errorf("%s: the canary gets %.3f, want %.3f ± %.3f", name, got, want, tolerance)
				}
			}
			random, _ := canary()
			near("at random", random, 0.2)
			by := `split_by = "{client}"`
			r.swap(splitFile(web, log, "{ stable = 80, canary = 20 }", by, servers))
			share, first := canary()
			near("by client", share, 0.2)
			r.swap(splitFile(web, log, "{ canary = 20, stable = 80 }", by, servers) + "[limits]\nheader_fields = 99\n")
			if _, again := canary(); !slices.Equal(first, again) {
				t.Error("clients changed sides with a reload that kept the shares")
			}
			r.swap(splitFile(web, log, "{ stable = 60, canary = 40 }", by, servers))
			share, more := canary()
			near("by client", share, 0.4)
			for i := range more {
				if first[i] && !more[i] {
					t.Fatal("a client left the canary, whose share grew")
				}
			}
			chosen := proxytest.Metric(t, r.metrics.Registry(), "mpgate_backend_requests_total", "backend", "canary", "code", "200")
			r.end()
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if logged := strings.Count(string(text), "backend=canary"); float64(logged) != chosen || logged == 0 {
				t.Errorf("%d requests of the canary in the log, %v in the metrics", logged, chosen)
			}
		})
	}
}

// A reload that changes shares, or one of the backends, ends no exchange on another backend.
func TestSplitEndsOnlyWhatChanged(t *testing.T) {
	servers := map[string]string{"stable": echoes(t), "canary": echoes(t)}
	web, log := proxytest.FreeAddress(t), filepath.Join(t.TempDir(), "access.log")
	by := "split_by = \"{query.to}\""
	file := func(backends string) string { return splitFile(web, log, backends, by, servers) }
	r := startRig(t, file("{ stable = 50, canary = 50 }"), nil)
	s, err := split.New([]split.Choice{{Name: "canary", Weight: 50}, {Name: "stable", Weight: 50}})
	if err != nil {
		t.Fatal(err)
	}
	tunnels := map[int]*proxytest.Client{}
	for i := 0; len(tunnels) < 2; i++ {
		if at := s.Choose(fmt.Append(nil, i)); tunnels[at] == nil {
			tunnels[at] = upgraded(t, web, fmt.Sprintf("/?to=%d", i))
		}
	}
	canary, stable := tunnels[0], tunnels[1]
	settled := func() {
		t.Helper()
		if !proxytest.Within(patience, func() bool { return r.Status().Draining == 0 }) {
			t.Fatal("the old generation does not end")
		}
	}
	r.swap(file("{ stable = 90, canary = 10 }"))
	settled()
	carries(t, canary)
	carries(t, stable)
	servers["canary"] = echoes(t)
	r.swap(file("{ stable = 90, canary = 10 }"))
	settled()
	if _, err := canary.Rest(); err == nil {
		t.Error("the tunnel on the backend that changed ends in order, though it was cut")
	}
	carries(t, stable)
	delete(servers, "canary")
	by = ""
	r.swap(file(`"stable"`))
	settled()
	carries(t, stable)
	stable.Close()
}
