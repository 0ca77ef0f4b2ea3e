// Package peers knows how to run each proxy that the benchmarks compare: its command and its
// configuration. It starts nothing: `--print-config` shows exactly what a run uses.
//
// For all of them, the number of workers or threads is the same, connections to the backend are
// kept and reused, nothing is compressed, and X-Forwarded-For, -Proto and -Host are set. The access
// log is off for all, or goes to a file for all, in the usual form of each proxy. A default that
// would make a proxy slower at what is measured is changed in its favour, and its file says why.
package peers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"mpgate/bench/result"
)

// Setup is what a proxy is to do.
type Setup struct {
	Dir         string // its own; configuration files go there
	Listen      string // 127.0.0.1:PORT
	Backend     string
	Transport   result.Transport
	Workers     int
	Connections int    // the most that clients open
	Body        int64  // the size of the answers, for those whose buffers are set
	LogFile     string // "": no access log
	Cert, Key   string // "": no TLS
	H2          bool   // over TLS: HTTP/2 for whoever asks for it
	Mptcpize    string // the program, "" where it is missing
	Root        string // a directory of files, for those that serve them
	Path        string // of the requests that will be made; "": /bytes/N
	Fields      []string
}

// Plan is how a proxy is run for a Setup.
type Plan struct {
	Args   []string
	Env    []string
	Files  []File
	Stdout string // the file that takes its standard output, where that is its access log
	// Ready is a unix socket on which GET /readyz answers 200 once the proxy is ready; "": it is
	// ready when it answers a request.
	Ready string
	// Check, if set, is a command that says whether the program takes the configuration.
	Check []string
	Notes []string
}

// File is one that the plan wants written.
type File struct{ Name, Text string }

// Peer is a proxy that was found.
type Peer struct {
	Name    string
	Program string
	Version string
	plan    func(p *Peer, s Setup) (Plan, error)
	// native says that the program listens with MPTCP by itself: Find asked it.
	native bool
}

// Plan gives the way to run it, or why it cannot do what s wants.
func (p *Peer) Plan(s Setup) (Plan, error) { return p.plan(p, s) }

// errMptcpize is why a case is left out where the tool is missing.
var errMptcpize = errors.New("this version does not support MPTCP itself, and mptcpize is not installed (Debian and Ubuntu: apt install mptcpize)")

// mptcpize puts that program in front of a command.
func (pl *Plan) mptcpize(s Setup) error {
	if s.Mptcpize == "" {
		return errMptcpize
	}
	pl.Args = append([]string{s.Mptcpize, "run"}, pl.Args...)
	note := "run under mptcpize: every TCP socket that it opens is an MPTCP one"
	if !s.Transport.Back() {
		note += ", also to the backend, which answers as plain TCP"
	}
	pl.Notes = append(pl.Notes, note)
	return nil
}

// find looks for a program: the path that was given, or its name in PATH and where Debian keeps
// daemons.
func find(given, name string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("--%s: %w", name, err)
		}
		return path, nil
	}
	for _, try := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(try); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("not found in PATH; --%s PATH names it (Debian and Ubuntu: apt install %s)", name, name)
}

// output runs a short command, such as one that prints a version.
func output(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}
