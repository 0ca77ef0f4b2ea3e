package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"mpgate/certs"
	"mpgate/config"
)

type pairCmd struct {
	Far       string   `required:"" placeholder:"HOST:PORT" help:"The address at which the near gateway reaches the far one."`
	Listen    string   `placeholder:"ADDRESS" default:":8080" help:"The address at which the near gateway accepts HTTP from clients (${default})."`
	Server    []string `placeholder:"HOST:PORT" default:"127.0.0.1:8080" help:"The servers behind the far gateway (${default})."`
	NearPaths []string `placeholder:"INTERFACE" help:"The interfaces of the near gateway's uplinks."`
	FarPaths  []string `placeholder:"INTERFACE" help:"The interfaces of the far gateway's uplinks."`
	Dir       string   `placeholder:"DIR" default:"pair" help:"The directory to write near/ and far/ to, which must not exist in it yet (${default})."`
}

func (pairCmd) Help() string {
	return `Writes the configurations and keys of two gateways: clients connect to the near one over TCP or MPTCP, the two are connected by HTTP/2 over TLS and MPTCP, over all uplinks of both, and the far one forwards to the servers. Neither clients nor servers need MPTCP.

Each gateway has a certificate that the other one verifies. The far gateway accepts no other connections, and trusts the addresses of clients that the near one sends, whatever the near one's own address is. The certificates are valid for ten years. The key of the CA is not kept: for new certificates, write a new pair.

    mpgate pair --far far.example.org:7443 --near-paths eth0,wwan0 --server 10.0.1.10:8080`
}

//go:embed pair.toml.tmpl
var pairText string

var pairTemplate = template.Must(template.New("pair").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(pairText))

// pairSide is what the template needs.
type pairSide struct {
	Near    bool
	Name    string // of the certificate of the other side
	Listen  string
	Servers []string
	Paths   []string
}

func (c *pairCmd) Run(p *program) (err error) {
	sides, err := c.sides()
	if err != nil {
		return err
	}
	keys, err := certs.NewGatewayPair([2]string{"near.mpgate.internal", "far.mpgate.internal"}, time.Now())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	var dirs []string
	defer func() {
		if err != nil { // half a pair is of no use
			for _, dir := range dirs {
				_ = os.RemoveAll(dir)
			}
		}
	}()
	for _, name := range []string{"near", "far"} {
		dir := filepath.Join(c.Dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("%w; remove it, or name another directory with --dir", err)
		}
		dirs = append(dirs, dir)
	}
	for i, dir := range dirs {
		sides[i].Name = keys.Names[1-i]
		if err := sides[i].write(dir, keys.CA, keys.Certs[i], keys.Keys[i]); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		fmt.Fprintln(p.stdout, dir)
	}
	c.next(p, sides)
	return nil
}

// write writes the files of one side to a directory, and checks its configuration.
func (s *pairSide) write(dir string, ca, cert, key []byte) error {
	var text bytes.Buffer
	if err := pairTemplate.Execute(&text, s); err != nil {
		return err
	}
	name := filepath.Base(dir)
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{"mpgate.toml", text.Bytes(), 0o644}, {"ca.pem", ca, 0o644}, {name + ".pem", cert, 0o644}, {name + ".key", key, 0o600}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	_, err := config.Load(filepath.Join(dir, "mpgate.toml"), config.Options{Check: true})
	return err
}

// sides returns what the two files say.
func (c *pairCmd) sides() (sides [2]pairSide, err error) {
	host, port, err := net.SplitHostPort(c.Far)
	number, bad := strconv.Atoi(port)
	if err != nil || host == "" || bad != nil || number < 1 || number > 65535 {
		return sides, usageError(fmt.Sprintf("invalid --far %q; must be a host and a port, for example far.example.org:7443", c.Far))
	}
	for flag, list := range map[string][]string{"--near-paths": c.NearPaths, "--far-paths": c.FarPaths} {
		if len(list) == 1 {
			return sides, usageError(fmt.Sprintf("%s names one path (%q); name all uplinks of that side, or leave it out", flag, list[0]))
		}
	}
	sides[0] = pairSide{Near: true, Listen: c.Listen, Servers: []string{c.Far}, Paths: c.NearPaths}
	sides[1] = pairSide{Listen: ":" + port, Servers: c.Server, Paths: c.FarPaths}
	return sides, nil
}

// next says what each side needs.
func (c *pairCmd) next(p *program, sides [2]pairSide) {
	fmt.Fprintf(p.stdout, `
Copy each directory to its host, for example as /etc/mpgate, and start mpgate there:
    mpgate run -c near/mpgate.toml      on the near host
    mpgate run -c far/mpgate.toml       on the far host, which must be reachable at %s
`, c.Far)
	for i, name := range []string{"near", "far"} {
		if len(sides[i].Paths) > 0 {
			fmt.Fprintf(p.stdout, "The %s host needs a source route for each of %s, and mpgate needs CAP_NET_ADMIN there.\n", name, strings.Join(sides[i].Paths, ", "))
		}
	}
	fmt.Fprintln(p.stdout, "mpgate doctor -c FILE on each host says what is missing; mpgate paths --watch shows the traffic.")
}
