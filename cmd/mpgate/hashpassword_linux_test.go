package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// At a terminal the password is asked for twice and not shown, and Ctrl-C leaves the terminal as it
// was.
func TestHashPasswordAtTerminal(t *testing.T) {
	for typed, want := range map[string]string{
		"secret\rsecret\r": "$argon2id$", "secret\rsecre\r": "the two passwords differ", "sec\x03": "no password was given",
	} {
		host, terminal := openTerminal(t)
		before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := exec.Command(binary, "hash-password")
		cmd.Stdin, cmd.Stderr, cmd.Stdout = terminal, terminal, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		shown := ""
		b := make([]byte, 1000)
		for !strings.Contains(shown, "Password: ") {
			n, err := host.Read(b)
			if err != nil {
				t.Fatal(err, shown)
			}
			shown += string(b[:n])
		}
		if _, err := host.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		after, err2 := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err2 != nil || *after != *before {
			t.Errorf("%q: the terminal was left with %+v, %v", typed, after, err2)
		}
		n, _ := host.Read(b)
		shown += string(b[:n])
		if strings.Contains(shown, "sec") {
			t.Errorf("the password is shown: %q", shown)
		}
		if ok := strings.HasPrefix(want, "$"); ok != (err == nil) || ok != strings.HasPrefix(out.String(), want) || !ok && !strings.Contains(shown, want) {
			t.Errorf("%q: %v, %q, %q; want %q", typed, err, out.String(), shown, want)
		}
	}
}

// openTerminal gives both ends of a new terminal.
func openTerminal(t *testing.T) (host, terminal *os.File) {
	t.Helper()
	host, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	n, err := unix.IoctlGetInt(int(host.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(host.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return host, terminal
}
