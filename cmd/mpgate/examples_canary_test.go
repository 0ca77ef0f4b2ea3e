package main

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// runCanary divides clients, whose addresses a trusted proxy would say: here all come from one, so
// a header field stands for the client.
func runCanary(t *testing.T) {
	file := example(t, "canary.toml", "0.0.0.0:8080", "127.0.0.1:0", "127.0.0.1:9000", strings.TrimPrefix(named(t, "stable", nil), "http://"),
		"127.0.0.1:9001", strings.TrimPrefix(named(t, "canary", nil), "http://"), "{client}", "{header.X-Test-Client}")
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	ask := func(path, name, value string) (resp *http.Response, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+web+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "example.org"
		r.Header.Set(name, value)
		resp, err = http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, strings.TrimSpace(string(b))
	}
	count := map[string]int{}
	for _, client := range strings.Split(strings.Repeat("abcdefghijklmnopqrst", 10), "") {
		value := client + string(rune('a'+len(count)%26)) + client
		resp, first := ask("/", "X-Test-Client", value)
		if _, again := ask("/", "X-Test-Client", value); again != first {
			t.Errorf("client %s gets %s, then %s", value, first, again)
		}
		count[first]++
		if h := resp.Header; h.Get("Server") != "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "" {
			t.Errorf("the header is %v", h)
		}
	}
	if count["stable"] < 100 || count["stable"]+count["canary"] != 200 {
		t.Errorf("the shares are %v", count)
	}
	if _, got := ask("/", "Cookie", "beta=1"); got != "canary" {
		t.Errorf("a tester gets %q", got)
	}
	resp, got := ask("/x/.env", "X-Forwarded-For", "192.0.2.1")
	if h := resp.Header; got != "stable" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a private client gets %q with %v", got, h)
	}
	http.DefaultClient.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestRoutesPage runs the commands at the head of docs/routes.md.
func TestRoutesPage(t *testing.T) {
	var ran int
	for line := range strings.SplitSeq(readDoc(t, "../../docs/routes.md"), "\n") {
		command, ok := strings.CutPrefix(line, "    mpgate ")
		if !ok {
			continue
		}
		ran++
		args := shellWords(t, command)
		for i, a := range args {
			if strings.HasPrefix(a, "examples/") {
				args[i] = "../../" + a
			}
		}
		var out, fault strings.Builder
		if code := execute(args, &program{stdout: &out, stderr: &fault}); code != 0 || out.Len() == 0 {
			t.Errorf("mpgate %s: exit code %d, %s%s", command, code, &out, &fault)
		}
	}
	if ran < 5 {
		t.Errorf("the page has %d commands", ran)
	}
}

// shellWords cuts a command at spaces, with single quotes around words.
func shellWords(t *testing.T, command string) (words []string) {
	t.Helper()
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
