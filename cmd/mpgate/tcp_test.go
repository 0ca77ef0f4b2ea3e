package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// TestTCPPage runs the commands of docs/tcp.md, whose output stands below each.
func TestTCPPage(t *testing.T) {
	_, text, ok := strings.Cut(readDoc(t, "../../docs/tcp.md"), "```console\n")
	text, _, closed := strings.Cut(text, "```\n")
	if !ok || !closed {
		t.Fatal("docs/tcp.md has no commands")
	}
	for _, block := range strings.Split(text, "$ ")[1:] {
		line, want, _ := strings.Cut(block, "\n")
		args := strings.Fields(line)
		cmd := exec.Command(binary, args[1:]...)
		cmd.Dir = "../.."
		got, err := cmd.CombinedOutput()
		var trimmed []string
		for l := range strings.Lines(string(got)) {
			trimmed = append(trimmed, strings.TrimRight(l, " \n"))
		}
		if err != nil || strings.Join(trimmed, "\n")+"\n" != want {
			t.Errorf("%s: %v, got\n%swant\n%s", line, err, got, want)
		}
	}
}

// runTCP runs the example with a socket of systemd for TLS, and two ports of a range.
func runTCP(t *testing.T) {
	needsLinux(t)
	ca := newAuthority(t)
	ca.issue("mail", "mail.example.org")
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	f, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imap := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		h, err := proxytest.ReadProxyHeader(c.R)
		if err != nil {
			return
		}
		c.Send("* OK " + h.Source.Addr().String() + "\r\n")
		_, _ = io.Copy(c.Conn, c.R)
	})
	game := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) { c.Send("welcome\n") })
	// An address of the loopback network that nobody else uses: the ports are free there.
	const address = "127.93.6.18"
	p := start(t, passing("imaps", f), "run", "-c", example(t, "tcp.toml", "0.0.0.0:9000-9010", address+":9000-9001",
		"/etc/mpgate", ca.dir, "10.0.4.10:143", imap.Address(), "10.0.5.10:9000", game.Address(), "10.0.5.11:9000", "unix:"+serveUnixBytes(t)))
	p.ready("imaps", "game")

	s, err := tls.Dial("tcp", socket.Addr().String(), &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool, NextProtos: []string{"imap"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := bufio.NewReader(s)
	if line, err := r.ReadString('\n'); line != "* OK 127.0.0.1\r\n" {
		t.Errorf("the server of imaps said %q, %v", line, err)
	}
	if _, err := io.WriteString(s, "a NOOP\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "a NOOP\r\n" {
		t.Errorf("the server of imaps said %q, %v", line, err)
	}
	for _, port := range []string{"9000", "9001"} {
		c, err := net.Dial("tcp", address+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "welcome\n" {
			t.Errorf("port %s: got %q, %v", port, got, err)
		}
		c.Close()
	}
	s.Close()
	p.signal(syscall.SIGTERM)
	p.exits(0)
	for _, want := range []string{`"proto":"TCP"`, `"listener":"imaps","route":"imap"`, `"listener":"game","route":"game"`, `"tls_version":"TLS 1.3"`} {
		if !strings.Contains(p.text(), want) {
			t.Errorf("the log lacks %s:\n%s", want, p.text())
		}
	}
}

// serveUnixBytes is a server on a unix socket that greets.
func serveUnixBytes(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/game.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "welcome\n")
			c.Close()
		}
	}()
	return path
}
