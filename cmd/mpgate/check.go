package main

import (
	"encoding/json"
	"fmt"

	"mpgate/config"
)

type checkCmd struct {
	configFlag
	JSON bool `help:"Print the findings as JSON."`
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
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(faults); err != nil {
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
