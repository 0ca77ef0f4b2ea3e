package main

import (
	"encoding/json"
	"fmt"
	"io"

	"mpgate/config"
)

type checkCmd struct {
	configFlag
	JSON bool `help:"Print the findings as JSON."`
}

func (checkCmd) Help() string {
	return `Names all faults at once, each with its file, line and key, what is wrong and what would be right. Opens the TOML files and nothing else: neither certificates nor sockets. A variable that is not set is a warning here, and an error for run. Exits 78 when there is an error.

    mpgate check -c mpgate.toml
    mpgate check -c mpgate.toml --json`
}

func (c *checkCmd) Run(p *program) error {
	_, faults := config.Check(c.Config, config.Options{Check: true})
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
