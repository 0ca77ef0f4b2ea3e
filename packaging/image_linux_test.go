package packaging_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
	"mpgate/internal/proxytest"
	"mpgate/internal/systemd"
)

// store is a place of buildah's own for one test.
type store struct {
	t   *testing.T
	dir string
}

func (s store) args(args ...string) []string {
	return append([]string{"--root", filepath.Join(s.dir, "store"), "--runroot", filepath.Join(s.dir, "run"), "--storage-driver", "vfs"}, args...)
}

func (s store) buildah(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "buildah", s.args(args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestImage: the Dockerfile builds, on a Debian with Go that bears the name of its base image, for
// there may be no registry to be had; the image runs, as an ordinary user, and says that it is
// ready.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	root := systemd.Root(t)
	need.Program(t, "buildah", "buildah")
	s := store{t, t.TempDir()}
	base := s.buildah("from", "scratch")
	mount := s.buildah("mount", base)
	// What is large is mounted where the build runs: the store would copy it for each layer.
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(mount, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"usr", "tmp", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(mount, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, "cp", "/etc/ssl/certs/ca-certificates.crt", filepath.Join(mount, "etc/ssl/certs/"))
	s.buildah("umount", base)
	s.buildah("config", "--env", "PATH=/goroot/bin:/usr/sbin:/usr/bin", "--env", "GOPATH=/go", "--env", "GOCACHE=/gocache", "--env", "GOTOOLCHAIN=local", base)
	s.buildah("commit", "-q", "--rm", base, "docker.io/library/golang:1.27")
	build := []string{"build", "-q", "--isolation", "chroot", "--format", "docker", "--pull-never", "--build-arg", "VERSION=1.2.3", "-t", "mpgate:test"}
	for from, to := range map[string]string{
		filepath.Join(root, "usr"): "/usr:ro", output(t, "go", "env", "GOROOT"): "/goroot:ro",
		output(t, "go", "env", "GOMODCACHE"): "/go/pkg/mod", output(t, "go", "env", "GOCACHE"): "/gocache",
	} {
		build = append(build, "-v", from+":"+to)
	}
	s.buildah(append(build, "..")...)

	image := s.buildah("inspect", "--type", "image", "--format", "{{.Docker.Config.User}} {{.Docker.Config.Healthcheck.Test}} {{.Docker.Config.Entrypoint}}", "mpgate:test")
	if want := "10001:10001 [CMD /usr/local/bin/mpgate health] [/usr/local/bin/mpgate]"; image != want {
		t.Errorf("the image has %q, want %q", image, want)
	}
	runImage(t, s)
}

func runImage(t *testing.T, s store) {
	address := proxytest.FreeAddress(t)
	conf := filepath.Join(s.dir, "conf")
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[[listener]]\nname = \"web\"\naddress = %q\nhealth_path = \"/up\"\n[[route]]\nname = \"all\"\nbackend = \"app\"\n"+
		"[[backend]]\nname = \"app\"\nservers = [ { address = \"127.0.0.1:1\" } ]\n", address)
	if err := os.WriteFile(filepath.Join(conf, "mpgate.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	container := s.buildah("from", "--pull-never", "mpgate:test")
	run := []string{"run", "--isolation", "chroot", "-v", conf + ":/etc/mpgate:ro", container, "--", "/usr/local/bin/mpgate"}
	cmd := exec.Command("buildah", s.args(append(run, "run")...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	lines := bufio.NewScanner(stderr)
	pid, ready := 0, regexp.MustCompile(`"msg":"ready","version":"1.2.3","pid":(\d+)`)
	var said strings.Builder
	for pid == 0 && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := ready.FindStringSubmatch(lines.Text()); m != nil {
			pid, _ = strconv.Atoi(m[1])
		}
	}
	if pid == 0 {
		t.Fatalf("it does not get ready:\n%s", said.String())
	}
	if st, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil || st.Sys().(*syscall.Stat_t).Uid != 10001 {
		t.Errorf("it does not run as the user 10001: %v, %v", st, err)
	}
	resp, err := http.Get("http://" + address + "/up")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("it says %d %q", resp.StatusCode, b)
	}
	if out := s.buildah(append(run, "health")...); out != "ready" {
		t.Errorf("mpgate health says %q", out)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stderr)
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
