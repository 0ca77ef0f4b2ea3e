package http2

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestH2Spec runs the conformance tests of github.com/summerwind/h2spec, strict ones included.
func TestH2Spec(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 10 s")
	}
	bin := filepath.Join(t.TempDir(), "h2spec")
	if out, err := exec.Command("go", "build", "-C", "../../tools", "-o", bin, "github.com/summerwind/h2spec/cmd/h2spec").CombinedOutput(); err != nil {
		t.Fatalf("h2spec does not build: %v\n%s", err, out)
	}
	f := serve(t, ServerOptions{}, answer(200, strings.Repeat("0123456789", 100)))
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "--strict", "-h", "127.0.0.1", "-p", port, "-o", "5").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), " 0 skipped, 0 failed") {
		t.Errorf("some tests did not pass:\n%s", out[max(0, len(out)-4000):])
	}
}
