package main

import (
	"fmt"
	"os"

	"mpgate/cmd/mpgate/migrate"
)

type importCmd struct {
	From   string   `arg:"" enum:"nginx" help:"Proxy whose configuration is translated: nginx."`
	Files  []string `arg:"" name:"file" help:"Configuration files: main files, or files that are included in an http block."`
	Output string   `short:"o" placeholder:"FILE" help:"File to write; default: standard output. It must not exist."`
	Prefix string   `placeholder:"DIR" help:"Directory of relative file names in the configuration; default: that of each file."`
}

func (importCmd) Help() string {
	return `Translates the configuration of nginx, with the files that it includes, as far as mpgate can express it. What was left out or differs is reported with its file, line, directive and reason on standard error; mpgate check accepts the result. A location whose access restriction cannot be translated answers 403. If that is not possible either, the message begins with NOT PROTECTED and the exit code is 1. docs/migrate.md shows nginx, HAProxy, Caddy and Traefik side by side with mpgate.

    mpgate import nginx /etc/nginx/nginx.conf -o mpgate.toml
    mpgate import nginx --prefix /etc/nginx sites-enabled/example.org > mpgate.toml
    mpgate check -c mpgate.toml`
}

func (c *importCmd) Run(p *program) error {
	result, err := migrate.Nginx(c.Files, migrate.Options{Prefix: c.Prefix})
	if err != nil {
		return err
	}
	for _, m := range result.Messages {
		fmt.Fprintln(p.stderr, m)
	}
	if err := c.write(p, result.File); err != nil {
		return err
	}
	if result.Unprotected {
		fmt.Fprintln(p.stderr, "mpgate: access restrictions are missing in the result: see NOT PROTECTED above")
		return exitCode(exitFailed)
	}
	return nil
}

// write writes the result. It never replaces a file.
func (c *importCmd) write(p *program, text []byte) error {
	if c.Output == "" {
		_, err := p.stdout.Write(text)
		return err
	}
	f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
