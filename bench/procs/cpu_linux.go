package procs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is the CPU time of a process tree up to now.
type Usage struct {
	CPU          time.Duration // exact: the processes' CPU clocks
	User, System time.Duration // as the kernel splits it, in ticks of 10 ms
	PIDs         []int
}

// Sub is what was used between before and u. A process that ended in between took its time with it:
// that is an error, because the figure would be too small.
func (u Usage) Sub(before Usage) (Usage, error) {
	for _, pid := range before.PIDs {
		if !slices.Contains(u.PIDs, pid) {
			return Usage{}, fmt.Errorf("process %d of the tree ended during the round: its CPU time is lost", pid)
		}
	}
	return Usage{CPU: u.CPU - before.CPU, User: u.User - before.User, System: u.System - before.System, PIDs: u.PIDs}, nil
}

// ReadUsage adds up root and all its descendants.
func ReadUsage(root int) (Usage, error) {
	pids, err := Tree(root)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{PIDs: pids}
	for _, pid := range pids {
		cpu, err := cpuClock(pid)
		if err != nil {
			return Usage{}, err
		}
		stat, err := readStat(pid)
		if err != nil {
			return Usage{}, err
		}
		u.CPU += cpu
		u.User += stat.user
		u.System += stat.system
	}
	return u, nil
}

// cpuClock reads the CPU clock of a whole process, as clock_getcpuclockid(3) names it: the
// complement of the pid, and CPUCLOCK_SCHED. /proc/PID/stat has the same sum rounded to 10 ms, and
// /proc/PID/task/*/schedstat forgets threads that ended.
func cpuClock(pid int) (time.Duration, error) {
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuclockSched, &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Tree lists root and its descendants.
func Tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that has ended since is not part of the tree.
		if s, err := readStat(pid); err == nil && s.state != 'Z' {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

type procStat struct {
	state        byte
	parent       int
	user, system time.Duration
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(text))
}

// parseStat reads the fields of proc_pid_stat(5) behind the name, which may itself hold spaces and
// parentheses.
func parseStat(text string) (procStat, error) {
	_, rest, ok := cutLast(text, ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 || len(f[0]) != 1 {
		return procStat{}, fmt.Errorf("proc stat (got %q): not of the form pid (name) state …", text)
	}
	parent, err1 := strconv.Atoi(f[1])
	user, err2 := strconv.ParseInt(f[11], 10, 64)
	system, err3 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return procStat{}, fmt.Errorf("proc stat (got %q): a field is not a number", text)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go knows
	return procStat{f[0][0], parent, time.Duration(user) * tick, time.Duration(system) * tick}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Machine is the CPU time that all of the machine spent, and what of it a hypervisor took away.
type Machine struct{ Busy, Steal time.Duration }

// ReadMachine reads the first line of /proc/stat.
func ReadMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return parseMachine(line)
}

func parseMachine(line string) (Machine, error) {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return Machine{}, fmt.Errorf("/proc/stat (got %q): want a line cpu user nice system idle iowait irq softirq steal", line)
	}
	var v [9]int64
	for i := 1; i < 9; i++ {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return Machine{}, fmt.Errorf("/proc/stat (got %q): %w", line, err)
		}
		v[i] = n
	}
	const tick = 10 * time.Millisecond
	return Machine{
		Busy:  time.Duration(v[1]+v[2]+v[3]+v[6]+v[7]) * tick,
		Steal: time.Duration(v[8]) * tick,
	}, nil
}
