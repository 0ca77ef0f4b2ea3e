package procs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes this test binary the guard, and a program that starts others and is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			RunGuard(os.Stdin)
			return
		case "owner":
			owner()
			return
		}
	}
	os.Exit(m.Run())
}

func guardArgs() []string { return []string{os.Args[0], "guard"} }

func group(t *testing.T) *Group {
	t.Helper()
	g, err := NewGroup(guardArgs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// A tree of two shells that each work through a known amount: the CPU clock must see both, the
// memory too.
func TestUsageOfATree(t *testing.T) {
	g := group(t)
	p, err := g.Start(Spec{Args: []string{"sh", "-c", `sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo child $$; exec sleep 1000' & read x; wait`}, Pipe: true})
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "child ")))
	u, err := ReadUsage(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	own, err := cpuClock(child)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.PIDs) != 2 || u.PIDs[1] != child {
		t.Fatalf("tree of %d is %v, want its child %d in it", p.PID, u.PIDs, child)
	}
	if own <= 0 || u.CPU < own {
		t.Errorf("tree used %v, the child alone %v", u.CPU, own)
	}
	m, err := ReadMemory(p.PID)
	if err != nil || m.PSS <= 0 || m.RSS < m.PSS {
		t.Errorf("memory = %+v, %v", m, err)
	}
	p.Stop(5 * time.Second)
	if _, err := ReadUsage(p.PID); err == nil {
		t.Error("the usage of a process that ended was read without an error")
	}
}

func TestRun(t *testing.T) {
	g := group(t)
	out, err := g.Run(t.Context(), Spec{Args: []string{"sh", "-c", "echo $WHAT"}, Env: []string{"WHAT=ever"}})
	if out.Output != "ever\n" || err != nil {
		t.Errorf("Run = %q, %v", out.Output, err)
	}
	_, err = g.Run(t.Context(), Spec{Args: []string{"sh", "-c", "echo a; echo because >&2; exit 3"}})
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: because") {
		t.Errorf("a failing program: %v; want its last line in the error", err)
	}
	if _, err = g.Run(t.Context(), Spec{Args: []string{"/does/not/exist"}}); err == nil {
		t.Error("a program that is not there started")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("time is up"))
	_, err = g.Run(ctx, Spec{Args: []string{"sleep", "1000"}})
	if err == nil || err.Error() != "sleep: time is up" {
		t.Errorf("a run past its time: %v", err)
	}
}

func TestAffinityIsTheChildsAlone(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one CPU: nothing to choose from")
	}
	g := group(t)
	const show = "grep Cpus_allowed_list /proc/self/status"
	for _, c := range []struct {
		cpus []int
		want string
	}{{[]int{1}, "1"}, {[]int{0}, "0"}} {
		out, err := g.Run(t.Context(), Spec{Args: []string{"sh", "-c", show}, CPUs: c.cpus})
		if err != nil || !strings.HasSuffix(strings.TrimSpace(out.Output), "\t"+c.want) {
			t.Errorf("CPUs %v: %q, %v", c.cpus, out.Output, err)
		}
	}
	out, err := g.Run(t.Context(), Spec{Args: []string{"nproc"}})
	if err != nil || strings.TrimSpace(out.Output) != strconv.Itoa(runtime.NumCPU()) {
		t.Errorf("without CPUs the child has %q CPUs of %d: the starting thread kept the narrow set (%v)", out.Output, runtime.NumCPU(), err)
	}
}

// owner starts a grandchild in its group and a directory, says where they are, and waits to be
// killed.
func owner() {
	g, err := NewGroup(guardArgs())
	if err != nil {
		panic(err)
	}
	dir, err := g.TempDir()
	if err != nil {
		panic(err)
	}
	p, err := g.Start(Spec{Args: []string{"sh", "-c", "sleep 1000 & echo $!; wait"}, Pipe: true})
	if err != nil {
		panic(err)
	}
	grandchild, _ := bufio.NewReader(p.Stdout).ReadString('\n')
	fmt.Printf("%d %s %s\n", p.PID, strings.TrimSpace(grandchild), dir)
	select {}
}

// What a killed benchmark leaves behind is ended by the guard: child, grandchild and directory.
func TestGuard(t *testing.T) {
	cmd := exec.Command(os.Args[0], "owner")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child, grandchild int
	var dir string
	if _, err := fmt.Fscan(out, &child, &grandchild, &dir); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(grandchild, 0); err != nil {
		t.Fatalf("grandchild %d does not live: %v", grandchild, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, statErr := os.Stat(dir)
		if gone(child) && gone(grandchild) && os.IsNotExist(statErr) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s after its owner was killed: child gone %v, grandchild gone %v, directory %v", gone(child), gone(grandchild), statErr)
		}
		runtime.Gosched()
	}
}

// gone says whether a process ended; a zombie that nobody collected has.
func gone(pid int) bool {
	s, err := readStat(pid)
	return err != nil || s.state == 'Z'
}

func TestCloseEndsWhatIsLeft(t *testing.T) {
	g, err := NewGroup(guardArgs())
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Start(Spec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := g.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Close()
	select {
	case <-p.Done():
	default:
		t.Error("Close returned before the process ended")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory after Close: %v", err)
	}
}
