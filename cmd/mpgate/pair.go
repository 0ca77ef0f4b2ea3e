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
	Listen    string   `placeholder:"ADDRESS" default:":8080" help:"Where the near gateway accepts HTTP from clients."`
	Server    []string `placeholder:"HOST:PORT,..." default:"127.0.0.1:8080" help:"The servers behind the far gateway."`
	NearPaths []string `placeholder:"INTERFACE,..." help:"The interfaces of the near gateway's uplinks."`
	FarPaths  []string `placeholder:"INTERFACE,..." help:"The interfaces of the far gateway's uplinks."`
	Dir       string   `placeholder:"DIR" default:"pair" help:"The directory to write near/ and far/ to. It must not have them yet."`
}

func (pairCmd) Help() string {
	return `Writes the configurations and keys of two gateways: clients connect to the near one over TCP or MPTCP, the two are connected by HTTP/2 over TLS and MPTCP, over all uplinks of both, and the far one forwards to the servers. Neither clients nor servers need MPTCP.

Each gateway has a certificate that the other one verifies. The far gateway accepts nobody else, and takes the clients' addresses from the near one, whatever address that has. The key of the CA is not kept: to renew the certificates, which are valid for ten years, make a new pair.

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

func (c *pairCmd) Run(p *program) error {
	sides, err := c.sides()
	if err != nil {
		return err
	}
	keys, err := certs.NewGatewayPair([2]string{"near.mpgate.internal", "far.mpgate.internal"}, time.Now())
	if err != nil {
		return err
	}
	for i, name := range []string{"near", "far"} {
		dir := filepath.Join(c.Dir, name)
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("%w; remove it, or name another directory with --dir", err)
		}
		sides[i].Name = keys.Names[1-i]
		var text bytes.Buffer
		if err := pairTemplate.Execute(&text, sides[i]); err != nil {
			return err
		}
		for _, f := range []struct {
			name string
			data []byte
			mode os.FileMode
		}{{"mpgate.toml", text.Bytes(), 0o644}, {"ca.pem", keys.CA, 0o644}, {name + ".pem", keys.Certs[i], 0o644}, {name + ".key", keys.Keys[i], 0o600}} {
			if err := os.WriteFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
				return err
			}
		}
		if _, err := config.Load(filepath.Join(dir, "mpgate.toml"), config.Options{Check: true}); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, dir)
	}
	c.next(p, sides)
	return nil
}

// sides returns what the two files say.
func (c *pairCmd) sides() (sides [2]pairSide, err error) {
	host, port, err := net.SplitHostPort(c.Far)
	number, bad := strconv.Atoi(port)
	if err != nil || host == "" || bad != nil || number < 1 || number > 65535 {
		return sides, usageError(fmt.Sprintf("invalid --far %q; must be a host and a port, for example far.example.org:7443", c.Far))
	}
	if len(c.FarPaths) == 1 || len(c.NearPaths) == 1 {
		return sides, usageError("one path alone is no choice; name all uplinks, or none to use the endpoints that the kernel has")
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
