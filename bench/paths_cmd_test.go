//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/lab"
)

func TestPathsList(t *testing.T) {
	out, err := program(t, "paths", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rates          unequal rates\n", "path 2: 20 Mbit/s, 10ms one way\n", "path 2: 100 Mbit/s, 10ms one way, 1 % lost\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// keep starts `bench paths --keep` without measuring and waits until it says how to look around.
func keep(t *testing.T, mpgate string) (cmd *exec.Cmd, client string) {
	t.Helper()
	cmd = program(t, "paths", "--keep", "--rounds", "0", "--side", "both", "--congestion", "reno", "--mpgate", mpgate)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) > 4 && f[4] == "bash" && strings.HasSuffix(f[3], "-client") {
			client = f[3]
		}
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			return cmd, client
		}
	}
	_ = cmd.Wait()
	t.Fatalf("it ended: %s", errs.String())
	return nil, ""
}

// The lab of --keep is there to be used, and goes with Ctrl-C and with a kill alike: places,
// gateway, and scratch directory.
func TestKeep(t *testing.T) {
	lab.NeedRoot(t)
	mpgate := filepath.Join(t.TempDir(), "mpgate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", mpgate, "mpgate/cmd/mpgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			cmd, client := keep(t, mpgate)
			if client == "" {
				t.Fatal("it names no client")
			}
			get := `exec 3<>/dev/tcp/10.77.1.2/8080; printf 'GET /mptcp/bytes/5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3; cat <&3`
			out, err := exec.CommandContext(t.Context(), "nsenter", "--net=/run/netns/"+client, "bash", "-c", get).CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 200 ") {
				t.Errorf("a request from the client: %v: %s", err, out)
			}
			if n := len(running(t, mpgate)); n != 1 {
				t.Errorf("%d gateways run, want 1", n)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if s == syscall.SIGINT && err != nil {
				t.Errorf("it ended with %v", err)
			}
			tmp := strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TMPDIR=")
			gone(t, func() string {
				left, _ := filepath.Glob(filepath.Join(tmp, "*"))
				names, _ := filepath.Glob("/run/netns/" + client)
				if pids := running(t, mpgate); len(left)+len(names)+len(pids) > 0 {
					return fmt.Sprintf("directories %v, names %v, processes %v", left, names, pids)
				}
				return ""
			})
		})
	}
}

// gone waits until nothing is left.
func gone(t *testing.T, left func() string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); ; <-tick.C {
		what := left()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %s", what)
		}
	}
}

// running lists the processes of a program.
func running(t *testing.T, program string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range all {
		if to, err := os.Readlink(exe); err == nil && strings.HasPrefix(to, program) {
			pids = append(pids, filepath.Base(filepath.Dir(exe)))
		}
	}
	return pids
}
