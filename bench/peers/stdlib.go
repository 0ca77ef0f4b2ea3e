package peers

import (
	"context"
	"runtime"
	"strconv"
	"time"
)

// Stdlib is net/http and httputil.ReverseProxy, built into the benchmark: self is its program.
func Stdlib(_ context.Context, self string) (*Peer, error) {
	return &Peer{Name: "stdlib", Program: self, Version: runtime.Version() + " net/http + httputil.ReverseProxy", plan: planStdlib}, nil
}

// Slowed is Stdlib with burn of CPU time wasted in each request; name tells the copies apart.
func Slowed(name, self string, burn time.Duration) *Peer {
	return &Peer{Name: name, Program: self, Version: runtime.Version(), plan: func(p *Peer, s Setup) (Plan, error) {
		pl, err := planStdlib(p, s)
		if burn > 0 {
			pl.Args = append(pl.Args, "--burn", burn.String())
		}
		return pl, err
	}}
}

func planStdlib(p *Peer, s Setup) (Plan, error) {
	pl := Plan{
		Args: []string{p.Program, "child", "proxy", "--listen", s.Listen, "--backend", s.Backend},
		Env:  []string{"GOMAXPROCS=" + strconv.Itoa(s.Workers)},
	}
	if s.Transport.Front() {
		pl.Args = append(pl.Args, "--mptcp-front")
	}
	if s.Transport.Back() {
		pl.Args = append(pl.Args, "--mptcp-back")
	}
	if s.LogFile != "" {
		pl.Args = append(pl.Args, "--log", s.LogFile)
		pl.Notes = append(pl.Notes, "access log: common log format, buffered (64 KiB, 1 s)")
	}
	if s.Cert != "" {
		pl.Args = append(pl.Args, "--cert", s.Cert, "--key", s.Key)
	}
	if s.H2 {
		pl.Args = append(pl.Args, "--h2")
	}
	return pl, nil
}

// Beside is p with a process beside it, in its tree, that keeps share of a CPU busy: the figure
// must show it.
func Beside(p *Peer, self string, share float64) *Peer {
	slow := *p
	slow.Name = p.Name + "+burner"
	slow.plan = func(_ *Peer, s Setup) (Plan, error) {
		pl, err := p.plan(p, s)
		pl.Args = append([]string{self, "child", "beside", "--share", strconv.FormatFloat(share, 'g', -1, 64), "--"}, pl.Args...)
		return pl, err
	}
	return &slow
}
