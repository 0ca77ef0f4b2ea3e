//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type cli struct {
	CPU      cpuCmd      `cmd:"" name:"cpu" help:"CPU time of the proxy process a request, for each proxy that is found."`
	Load     loadCmd     `cmd:"" help:"Requests a second at saturation, and latency at a fixed rate."`
	Growth   growthCmd   `cmd:"" help:"What mpgate costs as connections, routes, servers and listeners become many."`
	Paths    pathsCmd    `cmd:"" help:"What a second path gives: goodput, latency and fail-over through mpgate, over links of a lab of network namespaces (root)."`
	Abuse    abuseCmd    `cmd:"" help:"What attacks on a proxy cost it, and cost clients that do nothing wrong."`
	Report   reportCmd   `cmd:"" help:"Show again what --json wrote: tables, page, plot."`
	Selftest selftestCmd `cmd:"" help:"Prove that a proxy that is made slower shows up as slower, and two equal ones as equal."`
	Child    childCmd    `cmd:"" hidden:""`
}

// options are what all verbs share.
type options struct {
	Mpgate  string `placeholder:"PATH" help:"An mpgate program; without it ./cmd/mpgate is built."`
	Against string `placeholder:"PATH" help:"A second mpgate program, such as one built before a change: measured beside the first, as \"against\"."`
	Nginx   string `placeholder:"PATH" help:"The nginx program."`
	Haproxy string `name:"haproxy" placeholder:"PATH" help:"The haproxy program."`
	Caddy   string `placeholder:"PATH" help:"The caddy program."`
	Wrk     string `placeholder:"PATH" help:"The wrk program."`
	H2load  string `name:"h2load" placeholder:"PATH" help:"The h2load program, for HTTP/2."`

	Only        []string      `placeholder:"NAME" help:"Only these proxies: mpgate, against, nginx, haproxy, caddy, stdlib."`
	Load        string        `enum:"auto,wrk,builtin" default:"auto" help:"Load generator. auto: wrk where it is installed and fits."`
	Connections int           `default:"64" help:"Connections of the load generator."`
	Rounds      int           `default:"5" help:"Rounds of each case; each proxy is measured once in each."`
	Round       time.Duration `default:"3s" help:"Length of a round, in whole seconds."`
	Warmup      time.Duration `default:"2s" help:"Length of the round that warms each proxy up and is not counted."`
	Workers     int           `help:"Workers or threads of each proxy; 0: one for each CPU that it may use."`
	ProxyCPUs   []int         `name:"proxy-cpus" placeholder:"N" help:"Pin the proxies to these CPUs. Default with 4 CPUs or more: the first half."`
	LoadCPUs    []int         `name:"load-cpus" placeholder:"N" help:"Pin load generator and backend to these. Default with 4 CPUs or more: the second half."`
	NoNetns     bool          `name:"no-netns" help:"As root: stay in this network namespace. MPTCP's counters then hold what others do, too."`

	Body      []string `placeholder:"SIZE" help:"Sizes of the answers, such as 1KiB,100KiB,10MiB. With one of these six flags, the cases are all combinations."`
	Transport []string `placeholder:"T" help:"tcp, mptcp-front, mptcp-both."`
	Log       []string `placeholder:"L" help:"Access log: off, file."`
	Close     []string `placeholder:"C" help:"Connections: keepalive, close (one a request)."`
	TLS       []string `name:"tls" placeholder:"T" help:"off, on (ECDSA P-256)."`
	H2        []string `name:"h2" placeholder:"P" help:"off, on, bulk: HTTP/2 over TLS, 8 streams on each of an eighth of the connections; or one stream on one, with answers of 16 MiB."`

	Quick       bool   `help:"Four cases, three short rounds, without caddy and stdlib where nginx or HAProxy are: a minute and a half."`
	SVG         string `name:"svg" placeholder:"FILE" help:"Write the one plot that says most."`
	Markdown    string `placeholder:"FILE" help:"Write the table that says most, as Markdown."`
	Baseline    string `placeholder:"NAME" help:"The proxy whose cost is divided by the others'; mpgate where it runs."`
	JSON        string `name:"json" placeholder:"FILE" help:"Write every round, with machine, versions and commands."`
	HTML        string `name:"html" placeholder:"FILE" help:"Write one self-contained page."`
	PrintConfig bool   `help:"Show the commands and configurations, and end."`

	// EveryLoopback: the backend listens on all of 127.0.0.0/8.
	EveryLoopback bool `kong:"-"`

	// Set when the benchmark starts itself again in a network namespace.
	InNetns bool   `hidden:""`
	Scratch string `hidden:""`
}

type cpuCmd struct {
	options
	Idle     []int         `default:"1000,10000" help:"Numbers of idle connections whose memory is measured; 0: none."`
	IdleRest time.Duration `default:"150s" help:"How long they are idle before. What is freed goes back to the system with time: Go's collector runs at least each 2 minutes."`
	NoCases  bool          `name:"no-cases" help:"Only memory and start-up."`
	Startup  int           `default:"10" help:"How often each proxy is started to time its first answer; 0: never."`
	Filters  bool          `help:"Instead of the cases: what mpgate's filters cost, beside mpgate without them; compression and static files beside nginx."`
	Balance  bool          `help:"Instead of the cases: what it costs to choose among 10 and 1,000 servers, by mpgate's ways to balance."`
	Of       []string      `placeholder:"NAME" help:"With --filters and --balance, only these: filters, basic_auth, jwt, gzip, zstd, files, balance-10, balance-1000."`
}

type loadCmd struct {
	options
	Rate float64 `help:"Requests a second of the latency rounds; 0: half of what the slowest proxy manages."`
}

type selftestCmd struct {
	options
	Burn  time.Duration `default:"200us" help:"CPU time that the slowed proxy wastes in each request."`
	Share float64       `default:"0.5" help:"Share of a CPU that the burner beside a proxy uses."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("bench"), kong.Description("Measures the cost of mpgate, in comparison with other proxies."), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s := <-signals
		signal.Stop(signals) // the second one ends the program at once; the guard then cleans up
		cancel(fmt.Errorf("ended by signal %v", s))
	}()
	k.BindTo(ctx, (*context.Context)(nil))
	if err := k.Run(); err != nil {
		if usage := (usageError{}); errors.As(err, &usage) {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func usageErrorf(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }
