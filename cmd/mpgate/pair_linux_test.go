package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/gateway"
	"mpgate/internal/lab"
)

// TestPair connects two gateways by what mpgate pair writes, over two links. The server gets the
// address of the client, who cannot choose it; nobody without the certificate gets in; and a
// download outlives the link that it began on.
func TestPair(t *testing.T) {
	curl := tool(t, "curl")
	l := lab.Start(t, lab.Pair(2, lab.Path{Rate: 50 * lab.Mbit}))
	near, far := l.Place("client"), l.Place("server")
	const size = 8 << 20
	begun := make(chan struct{}, 1)
	server := serveIn(t, far, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			fmt.Fprintf(w, "%s %s %s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Host)
			return
		}
		for i := range size >> 16 {
			_, _ = w.Write(make([]byte, 1<<16))
			if i == 16 {
				begun <- struct{}{}
			}
		}
	})

	dir := filepath.Join(t.TempDir(), "pair")
	pair := []string{"pair", "--far", "10.77.1.2:7443", "--listen", "127.0.0.1:8080", "--server", server.String(), "--dir", dir}
	if out, code := command(pair...); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if out, code := command(pair...); code == 0 || !strings.Contains(out, "near: file exists; remove it, or name another directory with --dir") {
		t.Errorf("a second pair in the same directory: exit code %d: %s", code, out)
	}
	other := filepath.Join(t.TempDir(), "other")
	if out, code := command("pair", "--far", "10.77.1.2:7443", "--server", "no port", "--dir", other); code != exitConfig || !strings.Contains(out, `(got "no port")`) {
		t.Errorf("an invalid server: exit code %d: %s", code, out)
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("an invalid server leaves %v (%v)", left, err)
	}
	files := map[string]string{}
	for side, place := range map[string]*lab.Place{"near": near, "far": far} {
		file := filepath.Join(dir, side, "mpgate.toml")
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, append(text, "\n[admin]\naddress = \"unix:admin.sock\"\n"...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		files[side] = file
		start(t, within(place), "run", "-c", file).ready()
	}

	ask := func(args ...string) (string, error) {
		out, err := near.Command(t.Context(), curl, append([]string{"-sS", "--max-time", "60"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if got, err := ask("-H", "X-Forwarded-For: 192.0.2.66", "-H", "Host: shop.example", "http://127.0.0.1:8080/"); err != nil || got != "127.0.0.1, 10.77.1.1 http shop.example" {
		t.Errorf("the server got %q (%v)", got, err)
	}
	if out, err := ask("-k", "https://10.77.1.2:7443/"); err == nil {
		t.Errorf("the far gateway serves a client without a certificate: %s", out)
	}
	until(t, files["near"], "the connection between the gateways has two subflows", func(r *gateway.PathsReport) bool {
		for _, c := range r.Connections {
			if c.Side == "backend" && len(c.Subflows) == 2 {
				return true
			}
		}
		return false
	})

	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := ask("-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://127.0.0.1:8080/large")
		done <- result{out, err}
	}()
	<-begun
	if err := l.Link("link1").Down("client"); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err != nil || r.out != fmt.Sprintf("200 %d", size) {
		t.Errorf("the download ended with %q (%v)", r.out, r.err)
	}
}
