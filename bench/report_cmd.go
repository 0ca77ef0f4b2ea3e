//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"mpgate/bench/result"
)

type reportCmd struct {
	Raw      []string `arg:"" name:"file" help:"What --json wrote. The cases of several files of one verb are put together; machine and command are the first's."`
	HTML     string   `name:"html" placeholder:"FILE" help:"Write one self-contained page."`
	SVG      string   `name:"svg" placeholder:"FILE" help:"Write the one plot that says most."`
	Markdown string   `placeholder:"FILE" help:"Write the table that says most, as Markdown."`
}

// Run shows again what was measured before.
func (c *reportCmd) Run() error {
	var all *result.Report
	for _, file := range c.Raw {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		one := &result.Report{}
		if err := json.Unmarshal(text, one); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if one.Verb == "" {
			return usageErrorf("%s: it is not what --json writes: it names no verb", file)
		}
		if all == nil {
			all = one
			continue
		}
		if one.Verb != all.Verb {
			return usageErrorf("%s (got a run of %q); want one of %q, as the first is", file, one.Verb, all.Verb)
		}
		for _, p := range one.Proxies {
			if !slices.ContainsFunc(all.Proxies, func(q result.Proxy) bool { return q.Name == p.Name }) {
				all.Proxies = append(all.Proxies, p)
			}
		}
		all.Idle = append(all.Idle, one.Idle...)
		all.Startup = append(all.Startup, one.Startup...)
		all.Cases = append(all.Cases, one.Cases...)
		all.Paths = append(all.Paths, one.Paths...)
		all.Growth = append(all.Growth, one.Growth...)
		all.Abuse = append(all.Abuse, one.Abuse...)
	}
	return write(all, options{HTML: c.HTML, SVG: c.SVG, Markdown: c.Markdown})
}
