package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"mpgate/config"
	"mpgate/proxy/route"
)

type routesCmd struct {
	configFlag
	JSON bool `help:"Print the routes as JSON."`
}

func (routesCmd) Help() string {
	return `A request takes the first route that matches. The routes of TCP listeners come first; each takes all connections of its listener. Then come the routes with match.sni, which pass TLS connections through without decrypting them.

    mpgate routes -c mpgate.toml`
}

func (c *routesCmd) Run(p *program) error {
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return err
	}
	t, err := buildTables(cfg)
	if err != nil {
		return err
	}
	list := t.inOrder()
	if c.JSON {
		return printJSON(p.stdout, list)
	}
	w := tabwriter.NewWriter(p.stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTE\tHOST\tPATH\tLISTENER\tACTION\tCONDITIONS")
	for _, r := range list {
		host := cmp.Or(r.Host, "any")
		path := cmp.Or(r.Path, "any")
		if r.Regexp {
			path = "~ " + r.Path
		}
		switch {
		case r.TCP:
			host, path = "tcp", "passed through"
		case r.SNI != "":
			host, path = "sni "+r.SNI, "passed through"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, host, path, cmp.Or(r.Listener, "any"), r.action(), r.conditions())
	}
	return w.Flush()
}

// routeLine is one route as printed.
type routeLine struct {
	Name       string `json:"name"`
	Host       string `json:"host"`
	Path       string `json:"path"`
	SNI        string `json:"sni"`
	Listener   string `json:"listener"`
	Backend    string `json:"backend"`         // with shares if there are several
	Files      string `json:"files,omitempty"` // their directory
	Redirect   string `json:"redirect,omitempty"`
	Answer     int    `json:"answer,omitempty"`
	Regexp     bool   `json:"path_regex,omitempty"` // path is one
	Conditions string `json:"conditions,omitempty"`
	Internal   bool   `json:"internal,omitempty"` // no client can ask for it
	TCP        bool   `json:"tcp,omitempty"`      // it takes all connections of its listener
}

// action is what answers: the name of a backend, or what mpgate does itself.
func (r *routeLine) action() string {
	switch {
	case r.Files != "" && r.Backend != "":
		return "files " + r.Files + ", then " + r.Backend
	case r.Files != "":
		return "files " + r.Files
	case r.Redirect != "":
		return "redirect " + r.Redirect
	case r.Answer != 0:
		return fmt.Sprintf("answer %d", r.Answer)
	}
	return r.Backend
}

func (r *routeLine) conditions() string {
	if !r.Internal {
		return cmp.Or(r.Conditions, "none")
	}
	if r.Conditions == "" {
		return "internal"
	}
	return "internal, " + r.Conditions
}

// tables find routes in the same way as the gateway.
type tables struct {
	http *route.Table[*config.Route]
	sni  *route.Table[*config.Route] // by SNI instead of the host
	tcp  *route.Table[*config.Route] // of TCP listeners
}

func buildTables(cfg *config.Config) (*tables, error) {
	var http, sni, tcp []route.Rule[*config.Route]
	isTCP := cfg.TCPListeners()
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		rule := route.Rule[*config.Route]{Name: r.Name, Match: r.Match.Rule(), Value: r}
		switch {
		case isTCP[r.Match.Listener]:
			tcp = append(tcp, rule)
		case r.Match.SNI != "":
			sni = append(sni, rule)
		default:
			http = append(http, rule)
		}
	}
	t := new(tables)
	var err error
	if t.http, err = route.Build(http); err == nil {
		t.sni, err = route.Build(sni)
	}
	if err == nil {
		t.tcp, err = route.Build(tcp)
	}
	return t, err
}

// shares are the backends of a route, with their shares if there are several.
func shares(r *config.Route) string {
	if name := r.Backend(); name != "" {
		return name
	}
	var list []string
	for _, name := range r.BackendNames() {
		list = append(list, name+" "+percent(r.Share(name)))
	}
	return strings.Join(list, ", ")
}

// percent is a share with at most two digits after the point.
func percent(p config.Percent) string {
	return config.Percent(math.Round(100*float64(p)) / 100).String()
}

func (t *tables) inOrder() []routeLine {
	list := []routeLine{}
	for _, table := range []*route.Table[*config.Route]{t.tcp, t.sni, t.http} {
		for _, e := range table.Entries() {
			r := e.Rule.Value
			line := routeLine{Name: r.Name, Host: e.Host, Path: e.Path, Listener: r.Match.Listener, Backend: shares(r), Regexp: e.Regexp, Conditions: e.Conditions}
			if r.Files != nil {
				line.Files = r.Files.Root
			}
			if r.Redirect != nil {
				line.Redirect = r.Redirect.To.String()
			}
			if r.Answer != nil {
				line.Answer = r.Answer.Status
			}
			if r.Match.SNI != "" {
				line.Host, line.SNI = "", r.Match.SNI
			}
			line.Internal = r.Internal
			line.TCP = table == t.tcp
			list = append(list, line)
		}
	}
	return list
}
