//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mpgate/bench/peers"
	"mpgate/bench/result"
)

// comparison is a case whose entries are variants of mpgate, with or without nginx doing the same.
// All of them get the same requests.
type comparison struct {
	name     string // for --of
	title    string
	body     int64
	path     string
	paths    int
	fields   []string
	variants []peers.Variant // the first one is the baseline where there is no nginx
	// beside are other proxies, the first of which is the baseline.
	beside func(ctx context.Context, b *bench, c *result.Case, variants []*peers.Peer) ([]*peers.Peer, error)
}

const text100 = "/text/102400"

// filterCases are those of --filters.
func filterCases(s *secrets) []comparison {
	plain := peers.Variant{}
	return []comparison{
		{
			name: "filters", title: "filters", body: 1 << 10,
			variants: []peers.Variant{
				plain,
				{Name: "+headers", Route: tenHeaders},
				{Name: "+allow", Route: thousandNetworks()},
				{Name: "+rate", Route: plentyOfRate},
				{Name: "+all three", Route: tenHeaders + thousandNetworks() + plentyOfRate},
			},
		},
		{
			name: "basic_auth", title: "basic_auth, the password is known", body: 1 << 10, fields: []string{s.basic},
			variants: []peers.Variant{plain, {Name: "+basic_auth", Route: "basic_auth = { users = \"htpasswd\" }\n", Files: []peers.File{s.htpasswd}}},
		},
		{
			name: "jwt", title: "jwt with ES256, the token is known", body: 1 << 10, fields: []string{s.bearer},
			variants: []peers.Variant{plain, {Name: "+jwt", Route: "jwt = { keys = \"keys.pem\", algorithms = [\"ES256\"] }\n", Files: []peers.File{s.keys}}},
		},
		{
			name: "gzip", title: "gzip", body: 100 << 10, path: text100, fields: []string{"Accept-Encoding: gzip"},
			variants: []peers.Variant{{Name: "+gzip", Route: "compress = { encodings = [\"gzip\"] }\n"}}, beside: nearestGzip,
		},
		{
			name: "zstd", title: "zstd", body: 100 << 10, path: text100, fields: []string{"Accept-Encoding: gzip, zstd"},
			variants: []peers.Variant{{Name: "+zstd", Route: "compress = { encodings = [\"zstd\"] }\n"}}, beside: nearestGzip,
		},
		{
			name: "files", title: "files", body: 100 << 10, path: "/page.html",
			variants: []peers.Variant{{Name: "+files", Root: true}}, beside: staticNginx,
		},
	}
}

// tenHeaders are operations of all kinds: set, add and remove, with and without variables.
const tenHeaders = `request_headers = { X-Forwarded-Port = "{port}", X-Client = "{client}", X-Stage = "production", Cookie = "", "+X-Via" = "edge" }
response_headers = { X-Frame-Options = "DENY", X-Content-Type-Options = "nosniff", X-Served-By = "{server}", Cache-Control = "", "+Vary" = "Accept" }
`

// plentyOfRate counts requests and refuses none.
const plentyOfRate = "limit = { rate = \"1000000/s\" }\n"

// thousandNetworks has the client in the last one.
func thousandNetworks() string {
	var list strings.Builder
	for i := range 999 {
		fmt.Fprintf(&list, "%q, ", fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
	}
	return "allow = [ " + list.String() + "\"127.0.0.0/8\" ]\n"
}

// balanceCases are those of --balance. Requests have a thousand paths, so that hash sends them to
// all servers.
func balanceCases() (list []comparison) {
	for _, n := range []int{10, 1000} {
		c := comparison{name: fmt.Sprintf("balance-%d", n), title: fmt.Sprintf("balance, %d servers", n), body: 1 << 10, paths: 1000}
		for _, v := range []struct{ name, lines string }{
			{"round_robin", "balance = \"round_robin\"\n"}, {"least", "balance = \"least\"\n"}, {"hash", "balance = \"hash\"\nhash = \"{path}\"\n"},
		} {
			c.variants = append(c.variants, peers.Variant{Name: v.name, Backend: v.lines, Servers: n})
		}
		list = append(list, c)
	}
	return list
}

// comparisons are those that the flags ask for.
func (c *cpuCmd) comparisons(s *secrets) (list []comparison, err error) {
	if c.Filters {
		list = filterCases(s)
	}
	if c.Balance {
		list = append(list, balanceCases()...)
	}
	var names []string
	for _, k := range list {
		names = append(names, k.name)
	}
	for _, name := range c.Of {
		if !slices.Contains(names, name) {
			return nil, usageErrorf("--of (got %q); want %s", name, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(list, func(k comparison) bool { return len(c.Of) > 0 && !slices.Contains(c.Of, k.name) }), nil
}

// compares says that the run is of variants of mpgate.
func (c *cpuCmd) compares() bool { return c.Filters || c.Balance }

// checkComparisons finds what does not go with them.
func (c *cpuCmd) checkComparisons() error {
	if !c.compares() {
		if len(c.Of) > 0 {
			return usageErrorf("--of goes with --filters and --balance")
		}
		return nil
	}
	if len(c.Body)+len(c.Transport)+len(c.Log)+len(c.Close) > 0 {
		return usageErrorf("--filters and --balance have cases of their own: leave out --body, --transport, --log and --close")
	}
	if len(c.TLS) > 1 || len(c.H2) > 1 || slices.Contains(c.H2, "bulk") {
		return usageErrorf("--filters and --balance take one of --tls, and --h2 on or off")
	}
	for _, name := range c.Only {
		if name != "mpgate" && name != "against" && name != "nginx" {
			return usageErrorf("--only (got %q); want mpgate, against or nginx with --filters and --balance", name)
		}
	}
	_, err := c.comparisons(new(secrets))
	return err
}

// runComparisons measures them into the report.
func (b *bench) runComparisons(ctx context.Context, rep *result.Report, list []comparison) error {
	for i := range list {
		c, peers, err := b.compared(ctx, &list[i])
		if err != nil {
			return err
		}
		if k := list[i].name; c.Path == text100 && b.generator(&c) == "builtin" {
			rep.Skipped = append(rep.Skipped, result.Skip{Name: k, Why: "the generator of our own reads no chunked answers, and " + loadPackage + " is not installed"})
			continue
		}
		rep.Cases = append(rep.Cases, c)
		if err := b.runCase(ctx, &rep.Cases[len(rep.Cases)-1], peers); err != nil {
			return err
		}
	}
	return nil
}

// compared gives the case, and who is measured in it.
func (b *bench) compared(ctx context.Context, k *comparison) (result.Case, []*peers.Peer, error) {
	base, err := b.product() // of the protocol
	if err != nil {
		return result.Case{}, nil, err
	}
	c := base[0]
	c.Title, c.Body, c.Path, c.Paths, c.Fields = k.title, k.body, k.path, k.paths, k.fields
	var list []*peers.Peer
	for _, p := range b.peers {
		if p.Name != "mpgate" && p.Name != "against" {
			continue
		}
		for _, v := range k.variants {
			list = append(list, peers.Vary(p, v))
		}
	}
	if len(list) == 0 {
		return c, nil, fmt.Errorf("mpgate: %s", b.notBuilt)
	}
	c.Baseline = list[0].Name
	if k.beside == nil {
		return c, list, nil
	}
	more, err := k.beside(ctx, b, &c, list)
	if err == nil && len(more) > 0 {
		c.Baseline = more[0].Name
	}
	return c, append(list, more...), err
}

// peer finds one by its name; nil if there is none.
func (b *bench) peer(name string) *peers.Peer {
	for _, p := range b.peers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// nearestGzip is nginx with the level whose answer is nearest in length to that of the first
// variant. Among levels that differ by less than 1 % it is the fastest.
func nearestGzip(ctx context.Context, b *bench, c *result.Case, variants []*peers.Peer) ([]*peers.Peer, error) {
	nginx := b.peer("nginx")
	if nginx == nil {
		return nil, nil
	}
	want, err := b.codedLength(ctx, variants[0], c)
	if err != nil {
		return nil, err
	}
	var lengths []int64
	for level := 1; level <= 9; level++ {
		n, err := b.codedLength(ctx, peers.NginxGzip(nginx, level), c)
		if err != nil {
			return nil, err
		}
		lengths = append(lengths, n)
	}
	return []*peers.Peer{peers.NginxGzip(nginx, nearestLevel(lengths, want))}, nil
}

// nearestLevel chooses by the lengths at level 1, 2, ….
func nearestLevel(lengths []int64, want int64) int {
	off := func(n int64) int64 { return max(n-want, want-n) }
	best := slices.MinFunc(lengths, func(a, b int64) int { return cmp.Compare(off(a), off(b)) })
	return 1 + slices.IndexFunc(lengths, func(n int64) bool { return max(n-best, best-n)*100 < best })
}

// codedLength is how long the body of one answer is, with a content coding.
func (b *bench) codedLength(ctx context.Context, p *peers.Peer, c *result.Case) (int64, error) {
	r, err := b.start(ctx, p, c, b.Connections)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Name, err)
	}
	defer r.stop()
	if r.coded == 0 {
		return 0, fmt.Errorf("%s: its answer has no content coding", p.Name)
	}
	return r.coded, nil
}

// staticNginx writes the file that all serve, and is nginx that serves it.
func staticNginx(_ context.Context, b *bench, c *result.Case, _ []*peers.Peer) ([]*peers.Peer, error) {
	root := filepath.Join(b.scratch, "www")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	page := strings.Repeat("<p>It was a bright cold day in April.</p>\n", int(c.Body)/32)[:c.Body]
	if err := os.WriteFile(filepath.Join(root, filepath.Base(c.Path)), []byte(page), 0o644); err != nil {
		return nil, err
	}
	nginx := b.peer("nginx")
	if nginx == nil {
		return nil, nil
	}
	return []*peers.Peer{peers.NginxFiles(nginx, false), peers.NginxFiles(nginx, true)}, nil
}

var comparisonMethod = []string{
	"All entries of a case get the same requests, with the same fields. Ratios are those of the cost of an entry to that of the one that the column names.",
	"gzip and zstd are mpgate's at their default level; nginx has the gzip_comp_level whose answer is nearest in length. A MiB is one of the backend's bodies, which are pages that compress as those of web sites do.",
}

// printComparisons shows what each would start.
func (b *bench) printComparisons(ctx context.Context, list []comparison) error {
	for i := range list {
		c, peers, err := b.compared(ctx, &list[i])
		if err == nil {
			err = b.printCase(&c, peers)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
