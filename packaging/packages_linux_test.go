package packaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/systemd"
)

// pack builds the packages of a version and gives the directory.
func pack(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("bash", "build.sh", version, dir)
	// A date of its own: a source without a repository has none.
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	return dir
}

func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPackages: the same source gives the same bytes; the deb is installed, serves, is upgraded
// under load, removed and purged on Debian 13.
func TestPackages(t *testing.T) {
	systemd.Root(t) // skips before the building
	first, again := pack(t, "1.0.0"), pack(t, "1.0.0")
	for _, pattern := range []string{"*.deb", "*.rpm", "*.cdx.json", "SHA256SUMS"} {
		if !bytes.Equal(read(t, one(t, first, pattern)), read(t, one(t, again, pattern))) {
			t.Errorf("two builds give different %s", pattern)
		}
	}
	if b := read(t, one(t, first, "*.rpm")); !bytes.HasPrefix(b, []byte{0xed, 0xab, 0xee, 0xdb}) {
		t.Errorf("the rpm begins with %x", b[:min(4, len(b))])
	}
	checkSBOM(t, read(t, one(t, first, "*.cdx.json")))

	m := systemd.Boot(t)
	clean := trace(m)
	m.Install(one(t, first, "*.deb"), "/root/first.deb", 0o644)
	m.Install(one(t, pack(t, "1.0.1"), "*.deb"), "/root/second.deb", 0o644)
	m.Run("dpkg", "-i", "/root/first.deb")
	if out := m.Run("mpgate", "version"); !strings.HasPrefix(out, "mpgate 1.0.0 ") {
		t.Errorf("the version is %q", out)
	}
	m.Run("mpgate", "check")
	if out, _ := m.Try("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/mpgate.service", "/usr/lib/systemd/system/mpgate-http.socket"); out != "" {
		t.Errorf("systemd-analyze verify says\n%s", out)
	}
	for _, file := range []string{
		"/usr/share/man/man1/mpgate.1.gz", "/usr/share/bash-completion/completions/mpgate", "/usr/share/zsh/vendor-completions/_mpgate",
		"/usr/share/fish/vendor_completions.d/mpgate.fish", "/usr/share/doc/mpgate/copyright", "/usr/share/doc/mpgate/sbom.cdx.json", "/usr/share/doc/mpgate/examples/minimal.toml",
	} {
		// dpkg leaves documents out where the host is told so; the package has them in any case.
		if out := m.Run("dpkg-query", "-L", "mpgate"); !strings.Contains(out, file+"\n") {
			t.Errorf("the package has no %s", file)
		}
	}
	serve(t, m)
	m.Run("systemctl", "enable", "--now", "mpgate.service")
	client := client(t, m)
	if got := get(client); got != "200 ok" {
		t.Fatalf("it says %q\n%s", got, m.Run("journalctl", "--no-pager", "-u", "mpgate.service"))
	}

	stop := load(t, client)
	m.Run("dpkg", "-i", "/root/second.deb")
	n, longest := stop()
	t.Logf("%d requests over the upgrade of the package, the longest took %v", n, longest.Round(time.Millisecond))
	if out := m.Run("mpgate", "status"); !strings.HasPrefix(out, "mpgate 1.0.1, ") {
		t.Errorf("after the upgrade: %q", out)
	}

	m.Write("/var/lib/mpgate/kept", "state", 0o600)
	m.Run("dpkg", "-r", "mpgate")
	if c, err := m.Dial(t.Context(), "127.0.0.1:80", false); err == nil {
		c.Close()
		t.Error("somebody listens after the removal")
	}
	if out := m.Run("cat", "/etc/mpgate/mpgate.toml"); out == "" {
		t.Error("a removal takes the configuration")
	}
	m.Run("dpkg", "-P", "mpgate")
	if left := trace(m); left != clean+"/var/lib/mpgate\n/var/lib/mpgate/kept\n" {
		t.Errorf("a purge leaves\n%s", strings.TrimPrefix(left, clean))
	}
	if out, code := m.Try("getent", "passwd", "mpgate"); code == 0 {
		t.Errorf("a purge leaves the user: %s", out)
	}
}

// trace lists all that bears the name.
func trace(m *systemd.Machine) string {
	return m.Run("sh", "-c", `find / -xdev \( -path /proc -o -path /root -o -path /var/log/journal -o -path /tmp \) -prune -o -path '*mpgate*' -print | sort`)
}

func checkSBOM(t *testing.T, text []byte) {
	t.Helper()
	var b struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"std": true, "github.com/caddyserver/certmagic": true, "github.com/BurntSushi/toml": true}
	for _, c := range b.Components {
		delete(want, c.Name)
		if c.Version == "" || !strings.HasPrefix(c.Purl, "pkg:golang/"+c.Name+"@") {
			t.Errorf("component %+v", c)
		}
	}
	if b.BOMFormat != "CycloneDX" || b.SpecVersion != "1.6" || len(want) > 0 {
		t.Errorf("%s %s; it lacks %v", b.BOMFormat, b.SpecVersion, want)
	}
}

// serve is what stands behind the gateway.
func serve(t *testing.T, m *systemd.Machine) {
	t.Helper()
	var l net.Listener
	if err := m.InNet(func() (err error) {
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:8080")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

func client(t *testing.T, m *systemd.Machine) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return m.Dial(ctx, address, true) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func get(c *http.Client) string {
	resp, err := c.Get("http://127.0.0.1/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status[:4] + string(b)
}

// load asks without pause until stop is called.
func load(t *testing.T, c *http.Client) (stop func() (n int64, longest time.Duration)) {
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	var n atomic.Int64
	var longest time.Duration
	wait.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			if got := get(c); got != "200 ok" {
				t.Errorf("a request says %q", got)
			}
			longest = max(longest, time.Since(began))
			if n.Add(1)%2 == 0 {
				c.CloseIdleConnections()
			}
		}
	})
	return func() (int64, time.Duration) {
		cancel()
		wait.Wait()
		return n.Load(), longest
	}
}
