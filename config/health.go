package config

import (
	"slices"
	"time"
)

// HealthCheck is backend.check: how the servers are checked. With neither Path nor GRPC it is a
// connect.
type HealthCheck struct {
	Path string `toml:"path" as:"path_query" eg:"/healthz" help:"Path to request; neither path nor grpc: only connect."`
	// GRPC is "" for no gRPC, WholeServer for none of its services.
	GRPC     string        `toml:"grpc" eg:"app.Orders" help:"Service to check by grpc.health.v1; * for the server as a whole."`
	Interval time.Duration `toml:"interval" default:"5s" min:"100ms" help:"Time from one check to the next, plus or minus a tenth."`
	Timeout  time.Duration `toml:"timeout" default:"2s" min:"1ms" help:"Longest time of a check, with its connect."`
	Rise     int           `toml:"rise" default:"2" min:"1" max:"100" help:"Successful checks in a row until a server gets requests again."`
	Fall     int           `toml:"fall" default:"3" min:"1" max:"100" help:"Failed checks in a row until a server gets no requests."`
	Status   []StatusRange `toml:"status,one" default:"200-399" help:"Statuses of a successful check."`
	Host     string        `toml:"host" as:"host_name" eg:"app.example" help:"Host of the request; default: that of the server's address."`
	Method   string        `toml:"method" as:"method" default:"GET" help:"Method of the request."`
	Body     string        `toml:"body" eg:"ok" help:"Text that the body of the response must contain, in its first 64 KiB."`
}

// WholeServer is the HealthCheck.GRPC of the server as a whole.
const WholeServer = "*"

// Eject is backend.eject: which errors in responses take a server out for a while.
type Eject struct {
	Errors int           `toml:"errors" default:"5" min:"0" max:"1000000" help:"Errors in a row that eject a server; 0: they do not count."`
	Ratio  Percent       `toml:"ratio" default:"50%" help:"Share of errors in the last 10 s, of at least 20 requests, that ejects a server; 0% for none."`
	Rest   time.Duration `toml:"rest" default:"10s" min:"100ms" help:"Time without requests; it doubles each time, up to 5m."`
	Most   Percent       `toml:"most" default:"50%" min:"1%" help:"Share of the servers that may be ejected at a time; one may, all may not."`
}

func (l *loader) checkHealth(b *Backend, n *node) {
	if b.Check != nil {
		l.checkCheck(b, n.get("check"))
	}
	e := n.get("eject")
	if b.Eject != nil && e.get("errors").leaf == int64(0) && e.get("ratio").leaf == "0%" {
		l.fault(e.at, `ejects nothing; write errors or ratio, for example eject = { errors = 5 }`)
	}
}

func (l *loader) checkCheck(b *Backend, n *node) {
	c := b.Check
	switch grpc := n.get("grpc"); {
	case n.has("grpc") && c.GRPC == "":
		l.fault(grpc.at, `names no service; write for example grpc = "app.Orders", or "*" for the server as a whole`)
	case c.GRPC != "" && c.Path != "":
		l.fault(grpc.at, "is set together with path%s; leave one of them out", grpc.got())
	case c.GRPC != "" && (b.Protocol == H1 || b.Protocol == Auto && b.TLS == nil):
		l.fault(grpc.at, `needs HTTP/2%s, and this backend uses protocol %q; write protocol = "h2c", or "h2" with tls`, grpc.got(), b.Protocol)
	}
	if n.has("path") {
		return
	}
	usual := slices.Equal(c.Status, []StatusRange{{200, 399}})
	for _, k := range []struct {
		name    string
		written bool
	}{{"status", !usual}, {"host", c.Host != ""}, {"method", c.Method != "GET"}, {"body", c.Body != ""}} {
		if k.written && n.has(k.name) {
			l.wrong(n.get(k.name), `is for a check with path; write for example path = "/healthz", or leave it out`)
		}
	}
}

// method is the method of a check. CONNECT would open a tunnel.
func method(s, _ string) (string, string) {
	if _, problem := methodOrAny(s, ""); problem != "" || s == "*" || s == "CONNECT" {
		return "", `is not a valid method for a check; must be for example "GET" or "HEAD", in upper case`
	}
	return s, ""
}
