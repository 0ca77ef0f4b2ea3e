package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"mpgate/config"
	"mpgate/gateway"
)

type checkCmd struct {
	configFlag
	JSON  bool `help:"Print the result as JSON."`
	Files bool `default:"true" negatable:"" help:"Open the files that the configuration names, and resolve its names (default); --no-files checks only the configuration itself."`
}

func (checkCmd) Help() string {
	return `Reports all errors at once, each with its file, line and key, what is wrong and what would be valid. If the configuration itself is valid, check also opens the files that it names, as a start would: certificates, keys and CA files, files of answers and error pages, and the directories of logs, sockets and state. It resolves the names of servers, and warns about those that have no address at present. It changes nothing and binds no address. Run it as the user that runs mpgate. --no-files checks only the configuration, for example on another host. An unset variable is a warning in check, and an error in run. The exit code is 78 if there is an error.

    mpgate check -c mpgate.toml
    mpgate check -c mpgate.toml --no-files --json`
}

func (c *checkCmd) Run(p *program) error {
	cfg, faults := config.Check(c.Config, config.Options{Check: true})
	if cfg != nil && c.Files {
		faults = append(faults, gateway.CheckFiles(cfg)...)
		faults = append(faults, gateway.CheckNames(context.Background(), cfg)...)
	}
	errs := 0
	for _, f := range faults {
		if f.Severity == config.Error {
			errs++
		}
	}
	if c.JSON {
		if faults == nil {
			faults = []config.Fault{}
		}
		if err := printJSON(p.stdout, faults); err != nil {
			return err
		}
	} else {
		for _, f := range faults {
			if f.Severity == config.Warning {
				fmt.Fprintf(p.stderr, "warning: %v\n", f)
			} else {
				fmt.Fprintln(p.stderr, f)
			}
		}
		if errs == 0 {
			fmt.Fprintf(p.stdout, "%s is valid\n", c.Config)
		}
	}
	if errs > 0 {
		return exitCode(exitConfig)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
