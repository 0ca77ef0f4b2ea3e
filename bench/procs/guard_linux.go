package procs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// guard is a small process that outlives this one. It is told of every process group and directory,
// and when its input ends without a goodbye (this process was killed, or crashed) it kills and
// removes what is left. nginx's workers, for one, go on when their master is killed, and then hold
// their CPU and their port.
type guard struct {
	mu  sync.Mutex
	in  io.WriteCloser
	cmd *exec.Cmd
}

func startGuard(args []string) (*guard, error) {
	cmd := exec.Command(args[0], args[1:]...)
	// Ctrl-C on the terminal does not reach its process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guard{in: in, cmd: cmd}, nil
}

func (g *guard) tell(format string, a ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.in, format+"\n", a...) // a guard that is gone guards nothing: the run goes on
}

func (g *guard) add(pgid int)      { g.tell("+%d", pgid) }
func (g *guard) remove(pgid int)   { g.tell("-%d", pgid) }
func (g *guard) addDir(dir string) { g.tell("d%s", dir) }

func (g *guard) stop() {
	g.tell("bye")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.in.Close()
	_ = g.cmd.Wait()
}

// RunGuard is the guard's main: it reads from in until it ends. It removes only directories that
// TempDir could have made.
func RunGuard(in io.Reader) {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	groups := make(map[int]bool)
	var dirs []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		if line == "bye" {
			return
		}
		if dir, ok := strings.CutPrefix(line, "d"); ok {
			dirs = append(dirs, dir)
			continue
		}
		n, err := strconv.Atoi(strings.TrimLeft(line, "+-"))
		if err != nil || n <= 1 {
			continue
		}
		if line[0] == '+' {
			groups[n] = true
		} else {
			delete(groups, n)
		}
	}
	for pgid := range groups {
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
	}
	for _, d := range dirs {
		if strings.HasPrefix(filepath.Base(d), "mpgate-bench-") {
			_ = os.RemoveAll(d)
		}
	}
}
