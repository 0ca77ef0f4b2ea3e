// Command mpgate is an HTTP gateway for hosts with more than one path to the network. It accepts
// HTTP over Multipath TCP or TCP and forwards it to servers over Multipath TCP. It uses TCP when
// the peer, a middlebox or the host does not support MPTCP.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"mpgate/config"
)

// Exit codes; scripts and units rely on them.
const (
	exitOK     = 0
	exitFailed = 1 // at run time
	exitUsage  = 2 // of the command line
	// EX_CONFIG of sysexits.h: RestartPreventExitStatus= keeps systemd from trying again
	exitConfig = 78
)

// cli is the command line; each command has a file. Help, completion and the manual page are
// generated from it.
type cli struct {
	Demo         demoCmd         `cmd:"" help:"Start demo servers and a gateway on 127.0.0.1, and print what to try."`
	Run          runCmd          `cmd:"" help:"Run the gateway."`
	Check        checkCmd        `cmd:"" help:"Report all errors in a configuration file; change nothing."`
	Reload       reloadCmd       `cmd:"" help:"Make the running gateway load its configuration again; report whether it succeeded."`
	Upgrade      upgradeCmd      `cmd:"" help:"Replace the running gateway with a new process, usually of a new binary, that takes over its sockets."`
	Units        unitsCmd        `cmd:"" help:"Print or write the systemd units for the configuration."`
	Status       statusCmd       `cmd:"" help:"Show the state of the running gateway: listeners and backends with their transport, certificates, the last reload."`
	Health       healthCmd       `cmd:"" help:"Report whether the running gateway is ready; exit 0 if it is."`
	Server       serverCmd       `cmd:"" help:"Show the servers of the running gateway; take one out of service, or put it back."`
	Doctor       doctorCmd       `cmd:"" help:"Show what prevents MPTCP on this host or in the configuration, and how to fix it."`
	Paths        pathsCmd        `cmd:"" help:"Show the paths of the running gateway: endpoints, limits, connections and their subflows; --watch updates it."`
	Routes       routesCmd       `cmd:"" help:"List the routes in matching order."`
	Explain      explainCmd      `cmd:"" help:"Show which route and backend a URL matches, and why."`
	Config       configCmd       `cmd:"" help:"Print the configuration with all defaults, the reference, or a JSON Schema."`
	Import       importCmd       `cmd:"" help:"Translate the configuration of nginx; report what is left out."`
	Pair         pairCmd         `cmd:"" help:"Write the configurations of two gateways that are connected over all their uplinks."`
	HashPassword hashPasswordCmd `cmd:"" help:"Print the hash of a password, for basic_auth."`
	Version      versionCmd      `cmd:"" help:"Print the version."`
	Completion   completionCmd   `cmd:"" help:"Print a shell completion script."`
	Man          manCmd          `cmd:"" hidden:"" help:"Print the manual page."`
}

const (
	name        = "mpgate"
	description = "HTTP gateway for hosts with more than one path to the network. It uses Multipath TCP to clients and to servers, and TCP when the other side does not support MPTCP."
)

// program is what the commands need from the process.
type program struct {
	stdout, stderr io.Writer
	log            *ownLog // of the commands that serve
	end            func()  // called last, if it is set
}

func main() { os.Exit(execute(os.Args[1:], &program{stdout: os.Stdout, stderr: os.Stderr})) }

// newParser makes the parser; exit is called with the code after help was printed.
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

// execute runs one command line and returns the exit code.
func execute(args []string, p *program) int {
	code := -1
	parser, err := newParser(p, func(c int) { code = c })
	if err != nil {
		fmt.Fprintln(p.stderr, "mpgate:", err)
		return exitFailed
	}
	ctx, err := parser.Parse(args)
	if code >= 0 { // help was printed
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

// report prints an error and returns its exit code.
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
		if faults[0].File == defaultConfig && !exists(defaultConfig) {
			fmt.Fprintln(p.stderr, "-c FILE names another configuration; mpgate demo needs none")
		}
		return exitConfig
	}
	fmt.Fprintln(p.stderr, "mpgate:", err)
	if errors.As(err, &wrong) {
		return exitUsage
	}
	return exitFailed
}

// usageError is an error of the command line that the parser does not find.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitCode is an error that was already printed.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// defaultConfig is the configuration file of a service.
const defaultConfig = "/etc/mpgate/mpgate.toml"

// configFlag is the flag that most commands share.
type configFlag struct {
	Config string `short:"c" placeholder:"FILE" default:"${config}" help:"Configuration file (${default})."`
}
