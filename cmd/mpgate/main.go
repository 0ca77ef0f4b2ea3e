// Command mpgate is an HTTP gateway for hosts with more than one path to the network: it accepts HTTP over
// Multipath TCP or TCP, routes it, and forwards it to backends over Multipath TCP, with TCP where the peer, the
// path or the host has no MPTCP.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"mpgate/config"
)

// Exit codes, as scripts and units rely on them.
const (
	exitOK     = 0
	exitFailed = 1  // at run time
	exitUsage  = 2  // of the command line
	exitConfig = 78 // EX_CONFIG of sysexits.h: RestartPreventExitStatus= keeps systemd from trying again
)

// cli is the command line; each verb has a file. Help, completion and the man page come from it.
type cli struct {
	Demo       demoCmd       `cmd:"" help:"Try it: demo servers, a gateway in front of them on 127.0.0.1, and what to do with them."`
	Run        runCmd        `cmd:"" help:"Serve by a configuration file."`
	Check      checkCmd      `cmd:"" help:"Say all that is wrong with a configuration file, and touch nothing."`
	Reload     reloadCmd     `cmd:"" help:"Make the running gateway read its configuration anew; not 0 when the file was refused."`
	Upgrade    upgradeCmd    `cmd:"" help:"Start the program anew, a new binary perhaps, on the sockets of the running gateway, which then ends."`
	Units      unitsCmd      `cmd:"" help:"Print or write the systemd units that fit the configuration."`
	Status     statusCmd     `cmd:"" help:"Show what the running gateway does: listeners and what they really speak, backends, the last reload."`
	Health     healthCmd     `cmd:"" help:"Exit 0 when the running gateway is ready."`
	Doctor     doctorCmd     `cmd:"" help:"Say what on this host, or in the configuration, stands in the way of MPTCP, and what mends it."`
	Paths      pathsCmd      `cmd:"" help:"Show the paths of the running gateway: endpoints, limits, connections with their subflows; live with --watch."`
	Routes     routesCmd     `cmd:"" help:"List the routes in the order in which they are matched."`
	Explain    explainCmd    `cmd:"" help:"Say which route and backend a URL gets, and why."`
	Config     configCmd     `cmd:"" help:"Print the configuration with all defaults, the reference, or a JSON Schema."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print a script that completes mpgate's commands in a shell."`
	Man        manCmd        `cmd:"" hidden:"" help:"Print the manual page."`
}

const (
	name        = "mpgate"
	description = "HTTP gateway for hosts with more than one path to the network: Multipath TCP in front and behind, TCP where that cannot be."
)

// program is what the verbs need of the process.
type program struct {
	stdout, stderr io.Writer
	log            *ownLog // of the verbs that serve
	end            func()  // called last, if it is set
}

func main() { os.Exit(execute(os.Args[1:], &program{stdout: os.Stdout, stderr: os.Stderr})) }

// newParser makes the parser; exit is told the code when help was asked for and given.
func newParser(p *program, exit func(int)) (*kong.Kong, error) {
	return kong.New(&cli{},
		kong.Name(name),
		kong.Description(description),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(exit),
		kong.Bind(p),
		kong.Vars{"config": defaultConfig},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
	)
}

// execute runs one command line and gives the exit code.
func execute(args []string, p *program) int {
	code := -1
	parser, err := newParser(p, func(c int) { code = c })
	if err != nil {
		fmt.Fprintln(p.stderr, "mpgate:", err)
		return exitFailed
	}
	ctx, err := parser.Parse(args)
	if code >= 0 { // help was asked for and given
		return code
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "mpgate: %v\nsee mpgate --help\n", err)
		return exitUsage
	}
	defer func() {
		if p.end != nil {
			p.end()
		}
	}()
	return p.report(ctx.Run())
}

// report prints an error and gives the exit code that it means.
func (p *program) report(err error) int {
	var faults config.Errors
	var code exitCode
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &faults):
		fmt.Fprintln(p.stderr, err)
		return exitConfig
	}
	fmt.Fprintln(p.stderr, "mpgate:", err)
	if errors.As(err, &wrong) {
		return exitUsage
	}
	return exitFailed
}

// usageError is what is wrong with the command line though the parser took it.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitCode is an error that was already told.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// defaultConfig is where a service has its file.
const defaultConfig = "/etc/mpgate/mpgate.toml"

// configFlag is the flag that most verbs share.
type configFlag struct {
	Config string `short:"c" placeholder:"FILE" default:"${config}" help:"Configuration file (${default})."`
}
