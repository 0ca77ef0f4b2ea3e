//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mpgate/bench/load"
	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// bench is a run.
type bench struct {
	options
	group   *procs.Group
	self    string
	scratch string
	tools   tools
	origin  *originProcess
	peers   []*peers.Peer
	skipped []result.Skip
	cert    certificate
	serial  int                        // of the next proxy's directory
	shape   map[string]func(*load.Job) // what is special about the load of a proxy of this name
	say     func(format string, a ...any)

	notBuilt string // why there is no mpgate
}

// tools are the programs that help; "" where one is missing.
type tools struct{ wrk, h2load, mptcpize, ss string }

// stage makes everything ready. When root starts it, it first starts itself again in a network
// namespace of its own: the MPTCP counters, the ports and the sysctls are then this run's alone.
func stage(ctx context.Context, o options) (*bench, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if o.Scratch == "" {
		if o.Scratch, err = os.MkdirTemp("", "mpgate-bench-"); err != nil {
			return nil, err
		}
	}
	if len(o.ProxyCPUs) == 0 {
		o.ProxyCPUs, o.LoadCPUs = halves()
	}
	for _, program := range []*string{&o.Mpgate, &o.Against} {
		if *program == "" {
			continue
		}
		// Proxies are started in directories of their own.
		if *program, err = filepath.Abs(*program); err != nil {
			return nil, err
		}
	}
	b := &bench{options: o, self: self, scratch: o.Scratch, say: progress}
	if err := b.prepare(ctx); err != nil {
		os.RemoveAll(o.Scratch)
		return nil, err
	}
	return b, nil
}

func (b *bench) prepare(ctx context.Context) error {
	// nginx's workers are another user when root starts it, and must be able to enter.
	if err := os.Chmod(b.scratch, 0o755); err != nil {
		return err
	}
	if b.InNetns {
		b.notBuilt = os.Getenv(notBuiltEnv)
	} else if b.Mpgate == "" && b.wants("mpgate") {
		b.buildMpgate(ctx)
	}
	if os.Geteuid() == 0 && !b.NoNetns && !b.InNetns && !b.PrintConfig {
		if err := b.enterNetns(); err != nil {
			return err
		}
	}
	raiseFiles()
	b.tools = tools{wrk: look(b.Wrk, "wrk"), h2load: look(b.H2load, "h2load"), mptcpize: look("", "mptcpize"), ss: look("", "ss")}
	if b.options.Load == "wrk" && b.tools.wrk == "" {
		return fmt.Errorf("--load wrk: %s is not installed", loadPackage)
	}
	group, err := procs.NewGroup([]string{b.self, "child", "guard"})
	if err != nil {
		return err
	}
	b.group = group
	group.Adopt(b.scratch)
	b.findPeers(ctx)
	if b.cert, err = makeCertificate(b.scratch); err != nil {
		group.Close()
		return err
	}
	if b.origin, err = b.startOrigin(ctx); err != nil {
		group.Close()
		return fmt.Errorf("backend: %w", err)
	}
	return nil
}

func (b *bench) close() { b.group.Close() }

func (b *bench) wants(name string) bool { return len(b.Only) == 0 || slices.Contains(b.Only, name) }

func (b *bench) skip(name string, why error) {
	b.skipped = append(b.skipped, result.Skip{Name: name, Why: why.Error()})
}

// buildMpgate builds the program of this repository. It comes before the namespace is entered, in
// which Go could not fetch a module.
func (b *bench) buildMpgate(ctx context.Context) {
	out := filepath.Join(b.scratch, "mpgate")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "mpgate/cmd/mpgate")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.notBuilt = fmt.Sprintf("go build mpgate/cmd/mpgate: %v: %s (run the benchmark in mpgate's repository, or name a program with --mpgate)", err, strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "; "))
		return
	}
	b.Mpgate = out
}

// notBuiltEnv hands over to the next stage why mpgate was not built.
const notBuiltEnv = "MPGATE_BENCH_NOT_BUILT"

// enterNetns replaces this process by one in a new network namespace. It returns nil when it may
// not make one.
func (b *bench) enterNetns() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		b.say("no network namespace of its own (%v): MPTCP's counters hold what others do, too", err)
		return nil
	}
	// This thread is in the new namespace now: there is no way but forward.
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("lo up in a new network namespace: %w", err)
	}
	args := append(slices.Clone(os.Args), "--in-netns", "--scratch", b.scratch)
	if b.Mpgate != "" {
		args = append(args, "--mpgate", b.Mpgate)
	}
	return unix.Exec(b.self, args, append(os.Environ(), notBuiltEnv+"="+b.notBuilt))
}

// halves gives the proxies one half of the CPUs, and load generator and backend the other. With
// fewer than four CPUs all share all: a proxy on one CPU would be measured without what its threads
// cost each other, which is part of it.
func halves() (proxy, load []int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() < 4 {
		return nil, nil
	}
	var all []int
	for cpu := 0; len(all) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all[:len(all)/2], all[len(all)/2:]
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// raiseFiles lets this process, and so all that it starts, open as many files as the system allows.
func raiseFiles() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return
	}
	const plenty = 1 << 17 // only root may ask for more than the hard limit
	if more := (unix.Rlimit{Cur: max(l.Max, plenty), Max: max(l.Max, plenty)}); unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return
	}
	l.Cur = l.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

func look(given, name string) string {
	if given == "" {
		given = name
	}
	path, err := exec.LookPath(given)
	if err != nil {
		return ""
	}
	return path
}

// findPeers finds the proxies, mpgate first.
func (b *bench) findPeers(ctx context.Context) {
	for _, f := range []struct {
		name string
		find func() (*peers.Peer, error)
	}{
		{"mpgate", func() (*peers.Peer, error) { return b.findMpgate(ctx) }},
		{"against", func() (*peers.Peer, error) { return b.findAgainst(ctx) }},
		{"nginx", func() (*peers.Peer, error) { return peers.Nginx(ctx, b.Nginx) }},
		{"haproxy", func() (*peers.Peer, error) { return peers.HAProxy(ctx, b.Haproxy) }},
		{"caddy", func() (*peers.Peer, error) { return peers.Caddy(ctx, b.Caddy) }},
		{"stdlib", func() (*peers.Peer, error) { return peers.Stdlib(ctx, b.self) }},
	} {
		if !b.wants(f.name) || f.name == "against" && b.Against == "" {
			continue
		}
		if known := len(b.peers); b.Quick && len(b.Only) == 0 && (f.name == "caddy" || f.name == "stdlib") && known > 0 && b.peers[known-1].Name != "mpgate" {
			b.skip(f.name, errors.New("not in a quick run, which has others"))
			continue
		}
		p, err := f.find()
		if err != nil {
			b.skip(f.name, err)
			continue
		}
		b.peers = append(b.peers, p)
	}
	for _, s := range b.skipped {
		b.say("skipped: %s: %s", s.Name, s.Why)
	}
}

func (b *bench) findMpgate(ctx context.Context) (*peers.Peer, error) {
	if b.Mpgate == "" {
		return nil, errors.New(b.notBuilt)
	}
	return peers.Mpgate(ctx, b.Mpgate)
}

// findAgainst gives the other mpgate under a name of its own.
func (b *bench) findAgainst(ctx context.Context) (*peers.Peer, error) {
	p, err := peers.Mpgate(ctx, b.Against)
	if err == nil {
		p.Name = "against"
	}
	return p, err
}

func progress(format string, a ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", a...) }
