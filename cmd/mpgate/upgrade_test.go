package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// TestUpgrade: without systemd too, another process takes the sockets over, that of the admin
// address included, and no connection is refused. One that cannot serve changes nothing.
func TestUpgrade(t *testing.T) {
	needsLinux(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "done") }))
	t.Cleanup(server.Close)
	for _, admin := range []string{"unix:admin.sock", "127.0.0.1:0"} {
		t.Run(admin, func(t *testing.T) {
			if admin == "127.0.0.1:0" {
				admin = proxytest.FreeAddress(t)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "web.sock")
			config := strings.Replace(plainConfig(server.URL), `"unix:admin.sock"`, strconv.Quote(admin), 1)
			config = strings.Replace(config, `address = "127.0.0.1:0"`, fmt.Sprintf("address = [ %q, %q ]", proxytest.FreeAddress(t), "unix:"+path), 1)
			file := write(t, "mpgate.toml", config)
			p := start(t, nil, "run", "-c", file)
			m := p.line(`"msg":"listening","listener":"web","address":"(127[^"]*)"`)
			p.line(`"msg":"ready"`)
			overUnix := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}}
			stop := hammer(t, http.DefaultClient, "http://"+m[1]+"/", overUnix, "http://unix/")
			upgrade := func(want string, code int) {
				t.Helper()
				if strings.HasPrefix(admin, "unix:") {
					out, err := exec.Command(binary, "upgrade", "-c", file).CombinedOutput()
					if got := exitOf(err); got != code || !strings.Contains(string(out), want) {
						t.Errorf("mpgate upgrade exits %d and prints %q; want %d and %q", got, out, code, want)
					}
					return
				}
				out, _ := exec.Command(binary, "upgrade", "-c", file).CombinedOutput()
				if !strings.Contains(string(out), "send SIGUSR2 instead: kill -USR2 "+strconv.Itoa(p.cmd.Process.Pid)) {
					t.Errorf("mpgate upgrade over host:port prints %q", out)
				}
				p.signal(syscall.SIGUSR2)
			}
			if err := os.WriteFile(file, []byte(config+"colour = 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// else the command finds no admin address in it either
			if strings.HasPrefix(admin, "unix:") {
				upgrade("upgrade failed; the running process continues: "+file, 1)
			} else {
				p.signal(syscall.SIGUSR2)
			}
			p.line(`"msg":"upgrade failed; this process continues".*backend.app.colour: is not a known key`)
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}

			upgrade("upgraded: another process has taken over", 0)
			next := p.line(`"msg":"upgraded: another process has taken over","pid":(\d+)`)
			pid, err := strconv.Atoi(next[1])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			p.line(`"msg":"stopped"`)
			if n := stop(); n == 0 {
				t.Error("nothing was asked")
			}
			out, err := exec.Command(binary, "status", "-c", file).CombinedOutput()
			if err != nil || !strings.Contains(string(out), fmt.Sprintf("pid %d, ready", pid)) || strings.Count(string(out), "inherited") != 2 {
				t.Errorf("status: %v\n%s", err, out)
			}
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.line(`"msg":"stopped"`)
			p.exits(0)
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the unix socket is not removed in the end: %v", err)
			}
		})
	}
}

// TestUpgradeHangUpInTheFirstMoment: a log rotation hits the new process before its first
// instruction, here in a script. It lives, and both processes hear of the next one.
func TestUpgradeHangUpInTheFirstMoment(t *testing.T) {
	needsLinux(t)
	program := filepath.Join(t.TempDir(), "mpgate")
	if err := os.Symlink(binary, program); err != nil {
		t.Fatal(err)
	}
	file := write(t, "mpgate.toml", plainConfig("http://127.0.0.1:9"))
	p := start(t, func(c *exec.Cmd) { c.Path, c.Args[0] = program, program }, "run", "-c", file)
	p.ready("web")
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	p.line(`"msg":"upgrade failed; this process continues"`) // there is no program
	p.signal(syscall.SIGHUP)
	p.line(`"msg":"reloaded","generation":2`)
	script := fmt.Sprintf("#!/bin/sh\nkill -HUP $$; kill -USR2 $$\nexec %q \"$@\"\n", binary)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	next := p.line(`"msg":"upgraded: another process has taken over","pid":(\d+)`)
	pid, err := strconv.Atoi(next[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.line(`"msg":"reloaded","generation":2`)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.line(`"msg":"stopped"`)
	p.exits(0)
}

// TestUpgradeNotLetGoOn: a process that is to replace another and is not let do so takes nothing
// away from that.
func TestUpgradeNotLetGoOn(t *testing.T) {
	needsLinux(t)
	web, admin := filepath.Join(t.TempDir(), "web.sock"), filepath.Join(t.TempDir(), "admin.sock")
	listen := func(path string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	served, administered := listen(web), listen(admin)
	config := strings.Replace(plainConfig("http://127.0.0.1:9"), `"unix:admin.sock"`, strconv.Quote("unix:"+admin), 1)
	config = strings.Replace(config, `"127.0.0.1:0"`, strconv.Quote("unix:"+web), 1)
	handed, err := served.File()
	if err != nil {
		t.Fatal(err)
	}
	report, reportTo, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	release, releaseBy, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "-c", write(t, "mpgate.toml", config))
	cmd.ExtraFiles = []*os.File{reportTo, release, handed}
	cmd.Env = append(os.Environ(), `MPGATE_UPGRADE={"Ready":3,"Go":4,"Sockets":[{"FD":5}]}`)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	_ = report.SetReadDeadline(time.Now().Add(patience))
	if said, err := io.ReadAll(report); string(said) != "ready\n" || err != nil {
		t.Errorf("it says %q, %v", said, err)
	}
	releaseBy.Close()
	if code := exitOf(cmd.Wait()); code != 1 || !strings.Contains(out.String(), "did not continue the upgrade") {
		t.Errorf("it exits %d and logs:\n%s", code, &out)
	}
	for _, l := range []*net.UnixListener{served, administered} {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = l.SetDeadline(time.Now().Add(patience))
		got, err := l.Accept()
		if err != nil {
			t.Fatalf("%s leads elsewhere: %v", l.Addr(), err)
		}
		got.Close()
	}
}

func exitOf(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// hammer asks without pause until stop is called; no request may fail.
func hammer(t testing.TB, clientsAndURLs ...any) (stop func() int64) {
	var wait sync.WaitGroup
	var over atomic.Bool
	var n atomic.Int64
	for i := 0; i < len(clientsAndURLs); i += 2 {
		client, url := clientsAndURLs[i].(*http.Client), clientsAndURLs[i+1].(string)
		wait.Go(func() {
			for !over.Load() {
				resp, err := client.Get(url)
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
				n.Add(1)
			}
		})
	}
	return func() int64 {
		over.Store(true)
		done := make(chan struct{})
		go func() { wait.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("a request hangs")
		}
		return n.Load()
	}
}
