package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/listener"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/telemetry"
)

// childEnv makes the test binary a gateway: "LISTEN BACKEND LOGFILE", and "h2c" behind them where
// it is to speak that to the backend. To clients it speaks it anyway.
const childEnv = "MPGATE_TEST_GATEWAY"

// gatewayChild is a gateway with MPTCP on both sides. It says its address, and runs until its
// standard input ends.
func gatewayChild(spec string) (code int) {
	words := strings.Fields(spec)
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	metrics := telemetry.NewInstruments("test")
	access, err := telemetry.OpenAccessLog(telemetry.AccessLogOptions{SpoolOptions: telemetry.SpoolOptions{Destination: words[2]}})
	if err != nil {
		return fail(err)
	}
	o := backend.Options{Name: "pool", Servers: []backend.ServerOptions{{Address: words[1]}}, Instruments: metrics}
	if len(words) > 3 && words[3] == "h2c" {
		o.Protocol = backend.HTTP2
	}
	b, err := backend.New(o)
	if err != nil {
		return fail(err)
	}
	routes, err := proxy.NewRoutes([]proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}}})
	if err != nil {
		return fail(err)
	}
	sockets, err := listener.Open(context.Background(), listener.Options{Name: "web",
		Addresses: []string{words[0]}}, nil)
	if err != nil {
		return fail(err)
	}
	p := proxy.New(proxy.Options{Instruments: metrics, AccessLog: access})
	front := p.NewListener("web", proxy.ListenerOptions{Routes: routes, H2C: true})
	ctx, stop := context.WithCancel(context.Background())
	go func() { _ = b.Run(ctx) }()
	go func() { _ = access.Run(context.Background()) }()
	served := make(chan error, 1)
	go func() {
		served <- sockets.Serve(ctx, func(c net.Conn, s *listener.Socket) {
			p.Accept(c, front, s.Info().Transport == mptcp.MPTCP)
		})
	}()
	fmt.Println(sockets.Sockets()[0].Address)
	_, _ = io.Copy(io.Discard, os.Stdin)
	p.Shutdown(ctx)
	stop()
	<-served
	if err := access.Close(context.Background()); err != nil {
		return fail(err)
	}
	return 0
}

// child is a running gatewayChild.
type child struct {
	t     testing.TB
	addr  string
	log   string
	stdin io.Closer
	cmd   *exec.Cmd
}

// startChild runs a gateway with command, which returns a command for a program; it ends with the
// test.
func startChild(t testing.TB, command func(name string, args ...string) *exec.Cmd, listen, server string,
	more ...string) *child {
	t.Helper()
	c := &child{t: t, log: filepath.Join(t.TempDir(), "access.log")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = command(self)
	c.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{listen, server, c.log}, more...), " "))
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the gateway did not say where it listens: %v", err)
	}
	c.addr = strings.TrimSpace(line)
	return c
}

// end ends the gateway and returns its log.
func (c *child) end() (lines []proxytest.Line) {
	c.t.Helper()
	if c.cmd == nil {
		return nil
	}
	_ = c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the gateway: %v", err)
	}
	c.cmd = nil
	f, err := os.Open(c.log)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	defer f.Close()
	for d := json.NewDecoder(f); d.More(); {
		var l proxytest.Line
		if err := d.Decode(&l); err != nil {
			c.t.Error(err)
			return lines
		}
		lines = append(lines, l)
	}
	return lines
}
