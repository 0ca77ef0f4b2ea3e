package systemd

import (
	"strings"
	"testing"
)

func TestBoot(t *testing.T) {
	m := Boot(t)
	version := m.Run("systemctl", "--version")
	if !strings.HasPrefix(version, "systemd 257") {
		t.Errorf("it is %q, want systemd 257", version)
	}
	if out, code := m.Try("sh", "-c", "echo no; exit 7"); code != 7 || out != "no\n" {
		t.Errorf("a command that fails gives %q, %d", out, code)
	}
}
