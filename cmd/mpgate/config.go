package main

import (
	"io"

	"mpgate/config"
)

type configCmd struct {
	configFlag
	Effective bool `xor:"what" help:"Print every key with its value or default; secrets are hidden."`
	Reference bool `xor:"what" help:"Print every key with its default and its meaning."`
	Why       bool `help:"With --effective: say after each value in which file and line it is written."`
	Schema    bool `xor:"what" help:"Print a JSON Schema of the file, for editors."`
}

func (configCmd) Help() string {
	return `Needs exactly one of --effective, --reference and --schema.

    mpgate config --effective -c mpgate.toml
    mpgate config --effective --why -c mpgate.toml
    mpgate config --reference
    mpgate config --schema > mpgate.schema.json`
}

func (c *configCmd) Run(p *program) error {
	switch {
	case !c.Effective && !c.Reference && !c.Schema:
		return usageError("config: name one of --effective, --reference and --schema")
	case c.Why && !c.Effective:
		return usageError("--why: only with --effective")
	case c.Reference:
		_, err := io.WriteString(p.stdout, config.Reference)
		return err
	case c.Schema:
		_, err := p.stdout.Write(config.Schema())
		return err
	}
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return err
	}
	if c.Why {
		return cfg.EncodeWhy(p.stdout)
	}
	return cfg.Encode(p.stdout)
}
