package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// greedy opens connections of HTTP/2 with 100 streams each, takes a byte of each answer, and counts
// the answers by status once all have come, or the time is over.
func greedy(t *testing.T, addr string, conns int, wait time.Duration) map[string]int {
	t.Helper()
	const streams = 100
	var mu sync.Mutex
	got := map[string]int{}
	all := make(chan struct{})
	for range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		var out bytes.Buffer
		out.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&out, c)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for i := range streams {
			block.Reset()
			for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a.example"}, {":path", "/large"}} {
				_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
		if _, err := c.Write(out.Bytes()); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				if h, ok := frame.(*http2.MetaHeadersFrame); ok {
					mu.Lock()
					status := h.PseudoValue("status")
					if status == "503" && !strings.Contains(fmt.Sprint(h.Fields), "retry-after") {
						status = "503 without Retry-After"
					}
					got[status]++
					if got["200"]+got["503"] == conns*streams {
						close(all)
					}
					mu.Unlock()
				}
			}
		}()
	}
	select {
	case <-all:
	case <-time.After(wait):
	}
	mu.Lock()
	defer mu.Unlock()
	return map[string]int{"200": got["200"], "503": got["503"]}
}

// largeAnswers is a server whose answers under /large are of 300 kB.
func largeAnswers(t *testing.T) *httptest.Server {
	large := bytes.Repeat([]byte("large "), 50_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(large)
			return
		}
		fmt.Fprint(w, "done")
	}))
	t.Cleanup(s.Close)
	return s
}

// askAnew asks with a connection of its own.
func askAnew(addr string) (*http.Response, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := c.Get("http://" + addr + "/small")
	if err == nil {
		r.Body.Close()
	}
	return r, err
}

// limited runs a gateway in front of a server, below limits that prepare sets.
func limited(t *testing.T, prepare func(*exec.Cmd)) (p *process, addr, file string) {
	t.Helper()
	text := strings.Replace(plainConfig(largeAnswers(t).URL), "[[route]]", "protocols = [\"h1\", \"h2c\"]\n[[route]]", 1)
	file = filepath.Join(t.TempDir(), "mpgate.toml")
	if err := os.WriteFile(file, []byte("log.access = \"off\"\n"+text+"connect_timeout = \"1s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, prepare, "run", "-c", file)
	return p, p.ready("web")[0], file
}

// In a control group with little memory the gateway refuses what does not fit, and lives.
func TestMemoryOfTheControlGroup(t *testing.T) {
	const limit = 64 << 20
	dir, peak := memoryGroup(t, limit)
	p, addr, _ := limited(t, func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", `echo $$ >"$1/cgroup.procs" && shift && exec "$0" "$@"`, c.Path, dir}, c.Args[1:]...)
		c.Path, c.Err = exec.LookPath("sh")
	})
	t.Cleanup(func() { // before the group is removed
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	p.wrote(t, "the control group limits memory")
	got := greedy(t, addr, 20, patience)
	if got["503"] == 0 || got["200"] == 0 || got["200"]+got["503"] != 2000 {
		t.Errorf("of 2000 requests %v were answered, want some refused and all the others served", got)
	}
	r, err := askAnew(addr)
	switch {
	case err != nil:
		t.Errorf("another client: %v", err)
	case r.StatusCode == 503 && r.Header.Get("Retry-After") == "":
		t.Error("another client is not told when to come again")
	}
	if most := readInt(t, peak); most > limit {
		t.Errorf("the group has used %d bytes", most)
	}
	select {
	case <-p.ended:
		t.Errorf("the gateway was killed; it wrote\n%s", p.text())
	default:
	}
	p.wrote(t, `"reason":"memory"`)
}

// Clients with many streams leave descriptors to others, to a reload and to the gateway.
func TestDescriptorsAreShared(t *testing.T) {
	p, addr, file := limited(t, func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", `ulimit -n 512 && exec "$0" "$@"`, c.Path}, c.Args[1:]...)
		c.Path, c.Err = exec.LookPath("sh")
	})
	got := greedy(t, addr, 4, patience)
	if got["503"] == 0 || got["200"] < 40 || got["200"]+got["503"] != 400 {
		t.Errorf("of 400 requests %v were answered, want all, and some refused", got)
	}
	for range 20 {
		if r, err := askAnew(addr); err != nil || r.StatusCode != 200 {
			t.Fatalf("another client: %+v, %v", r, err)
		}
	}
	if out, err := exec.Command(binary, "reload", "-c", file).CombinedOutput(); err != nil {
		t.Errorf("reload: %v\n%s", err, out)
	}
	if text := p.text(); strings.Contains(text, "too many open files") {
		t.Errorf("descriptors ran out:\n%s", text)
	}
	p.wrote(t, `"reason":"connections"`)
}

// wrote wants the process to have logged that.
func (p *process) wrote(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(p.text(), text) {
		t.Errorf("it did not write %q:\n%s", text, p.text())
	}
}
