package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// victimEnv makes the test binary build a lab, print what it holds, and wait.
const victimEnv = "MPGATE_LAB_VICTIM"

type holdings struct {
	Spaces []string // net:[…]
	Pids   []int
	Names  []string
}

func victim() {
	spec := Pair(2, Path{Rate: 100 * Mbit})
	spec.Links[0].Engine, spec.Links[1].Engine = Kernel, Emulator
	l, err := New(context.Background(), spec)
	if err == nil {
		err = l.Name(os.Getenv(victimEnv))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var h holdings
	for _, s := range l.spaces() {
		link, err := os.Readlink(s.path())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		h.Spaces = append(h.Spaces, link)
	}
	for _, p := range l.Places() {
		// Also one that has left our process group and session.
		cmd := p.Command(context.Background(), "setsid", "--fork", "sleep", "1000")
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		h.Names = append(h.Names, filepath.Join("/run/netns", os.Getenv(victimEnv)+"-"+p.Name()))
	}
	h.Pids = append(h.Pids, l.cmd.Process.Pid)
	_ = json.NewEncoder(os.Stdout).Encode(h)
	for { // without cgo, Go's runtime would end a process in which every goroutine waits
		_ = unix.Pause()
	}
}

// holders lists processes that are in one of the namespaces or hold one open.
func holders(spaces []string) (pids []int) {
	want := map[string]bool{}
	for _, s := range spaces {
		want[s] = true
	}
	var files []string
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		some, _ := filepath.Glob(pattern)
		files = append(files, some...)
	}
	for _, f := range files {
		if link, err := os.Readlink(f); err == nil && want[link] {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// ended also takes a zombie, which init has not got round to, for ended.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// until waits for a condition that has no event of its own.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("still not: %s", what)
		case <-tick.C:
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	NeedRoot(t)
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			links := func() string {
				out, err := exec.Command("ip", "-o", "link").Output()
				if err != nil {
					t.Fatal(err)
				}
				return string(out)
			}
			before := links()
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=labtest%d", victimEnv, os.Getpid()))
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			var h holdings
			if err := json.Unmarshal(line, &h); err != nil {
				t.Fatal(err)
			}
			if len(h.Spaces) != 3 || len(holders(h.Spaces)) < 2*3+2 {
				t.Fatalf("the lab holds %+v, held by %v", h, holders(h.Spaces))
			}
			for _, name := range h.Names {
				if _, err := os.Stat(name); err != nil {
					t.Error(err)
				}
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("ended without an error")
			}
			until(t, "no process holds the namespaces", func() bool { return len(holders(h.Spaces)) == 0 })
			for _, pid := range h.Pids {
				until(t, "child process gone", func() bool { return ended(pid) })
			}
			for _, name := range h.Names {
				if _, err := os.Stat(name); !os.IsNotExist(err) {
					t.Errorf("%s is left: %v", name, err)
				}
			}
			if after := links(); after != before {
				t.Errorf("links before:\n%safter:\n%s", before, after)
			}
		})
	}
}
