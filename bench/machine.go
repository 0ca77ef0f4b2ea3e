//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/bench/result"
)

// sysctls are those that change what is measured.
var sysctls = []string{
	"net/ipv4/tcp_congestion_control", "net/core/default_qdisc", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem",
	"net/ipv4/ip_local_port_range", "net/ipv4/tcp_tw_reuse", "net/core/somaxconn", "net/ipv4/tcp_max_syn_backlog",
	"net/mptcp/enabled", "net/mptcp/checksum_enabled", "net/mptcp/scheduler", "net/mptcp/path_manager", "net/mptcp/pm_type",
	"net/mptcp/blackhole_timeout", "kernel/sched_autogroup_enabled", "vm/overcommit_memory",
}

func (b *bench) machine(ctx context.Context) result.Machine {
	m := result.Machine{
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Netns: b.InNetns,
		Load: text("/proc/loadavg"), Sysctls: make(map[string]string), Tools: make(map[string]string),
	}
	cpuinfo := text("/proc/cpuinfo")
	m.CPU = field(cpuinfo, "model name")
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	if strings.Contains(field(cpuinfo, "flags"), "hypervisor") {
		m.Virtual = "virtual machine"
	}
	kb, _, _ := strings.Cut(field(text("/proc/meminfo"), "MemTotal"), " ")
	if n, err := strconv.ParseInt(kb, 10, 64); err == nil {
		m.Memory = n << 10
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = cstring(u.Release[:]) + " " + cstring(u.Machine[:])
	}
	m.OS = strings.Trim(fieldOf(text("/etc/os-release"), "PRETTY_NAME", "="), `"`)
	for _, name := range sysctls {
		if v := text("/proc/sys/" + name); v != "" {
			m.Sysctls[strings.ReplaceAll(name, "/", ".")] = strings.Join(strings.Fields(v), " ")
		}
	}
	for name, path := range map[string]string{"wrk": b.tools.wrk, "h2load": b.tools.h2load, "mptcpize": b.tools.mptcpize, "ss": b.tools.ss} {
		m.Tools[name] = toolVersion(ctx, name, path)
	}
	return m
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// field finds "name : value" in files such as /proc/cpuinfo.
func field(text, name string) string { return fieldOf(text, name, ":") }

func fieldOf(text, name, sep string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func cstring(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func toolVersion(ctx context.Context, name, path string) string {
	if path == "" {
		return "not installed"
	}
	flag := map[string]string{"wrk": "-v", "h2load": "--version", "ss": "-V"}[name]
	if flag == "" {
		return filepath.Base(path)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// wrk -v prints its version and exits with an error.
	out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	line, _, _ = strings.Cut(line, " Copyright")
	return line
}
