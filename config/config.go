package config

import (
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/proxy/limits"
	"mpgate/proxy/preread"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// The types in this file and in config_tls.go declare the file format: each field with a toml tag
// is a key. doc.go describes the tags.

// Config is a complete configuration. It contains values only, no live objects, and is not changed
// after [Load]. Its tables can be compared with reflect.DeepEqual.
type Config struct {
	// Include is empty after Load: the included files are merged.
	Include []string `toml:"include,merged" eg:"conf.d/*.toml" help:"Further files to read, as names or patterns; only in the main file."`
	// StateDir is an absolute path.
	StateDir string `toml:"state_dir" as:"file" eg:"/var/lib/mpgate" help:"Directory for certificates and other state."`

	Log      Log           `toml:"log" help:"The program's own log and the access log."`
	Admin    Admin         `toml:"admin" help:"The admin socket."`
	Shutdown Shutdown      `toml:"shutdown" help:"How the gateway ends."`
	Limits   limits.Limits `toml:"limits" help:"Limits on clients."`
	MPTCP    MPTCP         `toml:"mptcp" help:"Multipath TCP: the host's endpoints and paths."`

	Listeners []Listener `toml:"listener" help:"Where clients connect."`
	Routes    []Route    `toml:"route" help:"Which requests go to which backend."`
	Backends  []Backend  `toml:"backend" help:"Named groups of servers."`

	// Filters and Defaults are empty after Load: they are merged into the routes and backends.
	Filters  []FilterSet `toml:"filters,merged" help:"Named sets of filters, for routes to use."`
	Defaults Defaults    `toml:"defaults,merged" help:"What routes and backends need not repeat."`

	// Files are the names of the files that were read, the main file first, as in faults.
	Files []string
	// Warnings are faults that do not prevent serving, sorted by place.
	Warnings []Fault

	places *places
}

// Equal reports whether both have the same values. The places in the files do not count.
func (c *Config) Equal(o *Config) bool {
	a, b := *c, *o
	a.Files, a.Warnings, a.places = nil, nil, nil
	b.Files, b.Warnings, b.places = nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// Log is the table [log].
type Log struct {
	Level  slog.Level       `toml:"level" default:"info" help:"Least severe messages to log."`
	Format telemetry.Format `toml:"format" default:"json" help:"Format of both logs."`
	// Fields are none if Format is combined.
	Fields []telemetry.LogField `toml:"fields" eg:"user_agent" help:"Header fields to add to the access log."`
	// Access is AccessStdout, AccessStderr, AccessOff or the absolute path of a file.
	Access string `toml:"access" as:"access" default:"stdout" help:"Where the access log goes: stdout, stderr, off or a file."`
}

// Values of Log.Access that are not files.
const (
	AccessStdout = "stdout"
	AccessStderr = "stderr"
	AccessOff    = "off"
)

// Admin is the table [admin].
type Admin struct {
	Off bool
	// Address is zero if Off is set.
	Address Address `toml:"address" as:"admin" eg:"127.0.0.1:9080" help:"Address of metrics, health, API and page: unix:PATH, host:port or off."`
	// Written is true if the address is in the file. A written address that cannot be bound is an
	// error; for the default it is only a warning.
	Written bool
}

// Shutdown is the table [shutdown].
type Shutdown struct {
	Drain time.Duration `toml:"drain" default:"30s" min:"0s" help:"How long requests in flight may take; 0s ends them at once."`
}

// MPTCP is the table [mptcp].
type MPTCP struct {
	Enabled  bool           `toml:"enabled" default:"true" help:"Whether mpgate uses MPTCP at all."`
	Manage   paths.Manage   `toml:"manage" default:"off" help:"What mpgate does about the host's MPTCP endpoints and limits."`
	Adopt    bool           `toml:"adopt" default:"false" help:"Whether sync may change endpoints that mpgate did not add."`
	Keep     bool           `toml:"keep" default:"false" help:"Whether sync leaves its endpoints when mpgate ends."`
	Failover paths.Failover `toml:"failover" default:"off" help:"On which paths mpgate closes subflows."`
	Fullmesh bool           `toml:"fullmesh" default:"false" help:"Whether each path connects to every address of the peer."`
	Limits   MPTCPLimits    `toml:"limits,inline" help:"Limits of one connection in the kernel."`
	Paths    []Path         `toml:"paths,inline" help:"The paths to use, at most 8."`
}

// MPTCPLimits are the limits of the kernel's path manager. Their maximum is MPTCP_PM_ADDR_MAX.
type MPTCPLimits struct {
	Subflows        int `toml:"subflows" default:"4" min:"0" max:"8" help:"Most additional subflows that mpgate starts."`
	AddAddrAccepted int `toml:"add_addr_accepted" default:"4" min:"0" max:"8" help:"Most announced addresses that are accepted."`
}

// Path is one of mptcp.paths. It has an interface, an address, or both.
type Path struct {
	// Name is unique.
	Name      string     `toml:"name" as:"path_name" eg:"lte" help:"Name of the path; default: the interface or the address."`
	Interface string     `toml:"interface" as:"device" eg:"eth0" help:"Network interface of the path."`
	Address   netip.Addr `toml:"address" eg:"192.0.2.7" help:"Local address of the path."`
	Role      paths.Role `toml:"role" default:"both" help:"Which connections may use the path."`
	Backup    bool       `toml:"backup" default:"false" help:"Whether the path is used only if no other works."`
	Announce  bool       `toml:"announce" default:"false" help:"Whether clients are told of the address."`
	Optional  bool       `toml:"optional" default:"false" help:"Whether mpgate is ready also while the path is down."`
	Port      uint16     `toml:"port" eg:"8443" min:"0" max:"65535" help:"Port to announce; 0 for the port of the connection."`
}

// Listener is one [[listener]].
type Listener struct {
	Name string `toml:"name" as:"name" required:"every entry needs a name, for example name = \"web\"" eg:"web" help:"Name of the listener."`
	// Addresses may be empty if Systemd is set.
	Addresses []Address `toml:"address,one" as:"listen" eg:"0.0.0.0:8080" help:"Addresses to listen on: host:port, :port, a range of ports, or unix:PATH."`
	// Mode is the file mode of the Unix sockets among the addresses.
	Mode os.FileMode `toml:"mode" default:"0660" help:"File mode of unix sockets, octal."`
	// Systemd is the FileDescriptorName of the inherited sockets that the listener takes, "" for
	// none.
	Systemd   string     `toml:"systemd" as:"fd_name" eg:"web" help:"FileDescriptorName of inherited sockets to take."`
	MPTCP     mptcp.Mode `toml:"mptcp" default:"prefer" help:"Whether clients may or must use MPTCP."`
	Interface string     `toml:"interface" as:"device" eg:"eth0" help:"Network interface to bind to."`
	// Protocols is never empty.
	Protocols      []Protocol        `toml:"protocols" only:"h1,h2,h2c,tcp" default:"h1" help:"Protocols that clients may use; with tls the default is h1 and h2. tcp forwards bytes unopened."`
	TrustedProxies []Network         `toml:"trusted_proxies" as:"trusted" eg:"10.0.0.0/8" help:"Networks (or unix, certificate) whose forwarding header fields are trusted."`
	ProxyProtocol  preread.ProxyMode `toml:"proxy_protocol" default:"off" help:"Whether connections begin with a PROXY header."`

	ProxyProtocolFrom []netip.Prefix `toml:"proxy_protocol_from" eg:"10.0.0.0/8" help:"Networks whose PROXY headers are accepted."`
	RedirectHTTPS     bool           `toml:"redirect_https" default:"false" help:"Whether every request is redirected to https."`
	// HealthPath is "" for none.
	HealthPath string `toml:"health_path" as:"exact_path" eg:"/healthz" help:"Path that mpgate answers itself, for health checks."`
	// TLS is nil for a listener without TLS.
	TLS *TLS `toml:"tls" help:"TLS to clients."`
}

// TrustsUnix reports whether peers on Unix sockets are trusted proxies: trusted_proxies has "unix"
// or a network that contains every address.
func (l *Listener) TrustsUnix() bool {
	return slices.ContainsFunc(l.TrustedProxies, func(n Network) bool { return n.Name == NetworkUnix || n.Prefix.Bits() == 0 })
}

// TrustsCertificate reports whether peers with a verified client certificate are trusted proxies.
func (l *Listener) TrustsCertificate() bool {
	return slices.Contains(l.TrustedProxies, Network{Name: NetworkCertificate})
}

// Accepts reports whether the listener accepts protocol p.
func (l *Listener) Accepts(p Protocol) bool { return slices.Contains(l.Protocols, p) }

// Protocol is a protocol of a listener or of a backend.
type Protocol string

const (
	H1  Protocol = "h1"
	H2  Protocol = "h2"  // over TLS
	H2C Protocol = "h2c" // without TLS, by prior knowledge
	// TCP is for listeners only, alone: their connections are forwarded unopened.
	TCP Protocol = "tcp"
	// Auto is for backends only: the protocol that ALPN selects over TLS, h1 without TLS.
	Auto Protocol = "auto"
)

// Values are the texts of all protocols.
func (Protocol) Values() []string { return texts(H1, H2, H2C, TCP, Auto) }

// Route is one [[route]].
type Route struct {
	Name string `toml:"name" as:"name" required:"every entry needs a name, for example name = \"web\"" eg:"api" help:"Name of the route."`
	// Use is empty after Load: the sets are merged into the route.
	Use   []string `toml:"use,one,merged" as:"name" eg:"internal" help:"Names of [[filters]] that the route uses; a later one replaces keys of an earlier one."`
	Match Match    `toml:"match,inline" help:"Which requests the route takes; what is left out matches all."`
	// Exactly one of Backends, Files, Redirect and Answer is set. Backends are weights by the name
	// of the backend; of one backend the weight has no meaning.
	Backends map[string]int `toml:"backend,one" min:"0" max:"1000000" group:"action" eg:"api = 1" help:"Name of the backend that answers, or weights by name to divide the requests."`
	Files    *Files         `toml:"files,inline" short:"root" group:"action" help:"Answers with the files of a directory."`
	Redirect *Redirect      `toml:"redirect,inline" short:"to" group:"action" help:"Sends clients to another URL."`
	Answer   *Answer        `toml:"answer,inline" group:"action" help:"Gives every request the same answer."`
	// SplitBy is the text by which a client keeps its backend; empty: each request is divided.
	SplitBy template.Template `toml:"split_by" eg:"{client}" help:"Value by which requests stay with one of several backends; default: each is divided at random."`

	Filters
	EncodedSlash      Choice `toml:"encoded_slash" only:"reject,keep" default:"reject" help:"What to do with an encoded slash in a path."`
	DuplicateSlashes  Choice `toml:"duplicate_slashes" only:"merge,keep" default:"merge" help:"What to do with slashes in a row in a path."`
	UnsafeHeaderNames Choice `toml:"unsafe_header_names" only:"drop,keep" default:"drop" help:"What to do with ambiguous header field names."`
}

// Choice is how an ambiguous part of a request is handled.
type Choice string

const (
	Reject Choice = "reject"
	Drop   Choice = "drop"
	Merge  Choice = "merge"
	Keep   Choice = "keep"
)

// Values are the texts of all choices. Each key takes only some of them.
func (Choice) Values() []string { return texts(Reject, Drop, Merge, Keep) }

// Match is the condition of a route. An empty field matches all requests. With SNI, Host and Path
// are empty.
type Match struct {
	// Hosts and Paths are as package route describes them.
	Hosts     []string `toml:"host,one" as:"route_host" eg:"example.org" help:"Hosts of the request: names, *.name for one label before it, name.* for labels behind it."`
	Paths     []string `toml:"path,one" as:"path_glob" eg:"/api/*" help:"Paths of the request, exact or with stars."`
	PathRegex string   `toml:"path_regex" eg:"^/v([0-9]+)/" help:"RE2 expression for the path, instead of path."`
	Listener  string   `toml:"listener" eg:"web" help:"Name of the listener that the request came in on."`
	Methods   []string `toml:"method,one" eg:"GET" help:"Methods of the request."`
	// Of the values, "*" is any and "" is that the name is absent.
	Header  map[string]string `toml:"header" names:"field" eg:"Upgrade = websocket" help:"Header fields of the request: a value, * for any, or an empty one for none."`
	Query   map[string]string `toml:"query" eg:"v = 2" help:"Parameters of the query, likewise."`
	Cookie  map[string]string `toml:"cookie" eg:"beta = *" help:"Cookies of the request, likewise."`
	Clients []Network         `toml:"client,one" as:"clients" eg:"10.0.0.0/8" help:"Networks of the client, or private."`
	// SNI has the form of a host with or without *. before it, or is AnySNI.
	SNI string `toml:"sni" as:"server_name" eg:"example.org" help:"Server name of a TLS connection to pass through unopened; * for any."`
}

// AnySNI is the Match.SNI of every TLS connection, also of one without a server name.
const AnySNI = "*"

// Backend is one [[backend]].
type Backend struct {
	Name    string  `toml:"name" as:"name" required:"every entry needs a name, for example name = \"web\"" eg:"api" help:"Name of the backend."`
	Balance Balance `toml:"balance" default:"round_robin" help:"How a server is chosen."`
	// Hash is empty if Balance is not Hash.
	Hash template.Template `toml:"hash" eg:"{client}" help:"Value by which balance hash chooses a server; default: the client's address."`
	// Sticky is nil without a cookie.
	Sticky          *Sticky              `toml:"sticky,inline" short:"cookie" help:"Keeps each client on a server by a signed cookie."`
	Protocol        Protocol             `toml:"protocol" only:"h1,h2,h2c,auto" default:"h1" help:"Protocol of connections to the servers."`
	MPTCP           mptcp.Mode           `toml:"mptcp" default:"prefer" help:"Whether connections to servers may or must use MPTCP."`
	ConnectTimeout  time.Duration        `toml:"connect_timeout" default:"5s" min:"1ms" help:"Longest time to connect to a server."`
	ResponseTimeout time.Duration        `toml:"response_timeout" default:"60s" min:"1ms" help:"Longest time until the head of the response."`
	IdleTimeout     time.Duration        `toml:"idle_timeout" default:"60s" min:"1ms" help:"Longest pause in a response or a tunnel, and of an idle connection."`
	SendProxy       preread.ProxyVersion `toml:"send_proxy" default:"off" help:"PROXY header to send to servers."`
	// Source is invalid if the kernel chooses the address.
	Source    netip.Addr `toml:"source" eg:"192.0.2.7" help:"Local address to connect from."`
	Interface string     `toml:"interface" as:"device" eg:"eth0" help:"Network interface to connect from."`
	// Check and Eject are nil for none.
	Check     *HealthCheck  `toml:"check,inline" help:"Checks of the servers; {} connects to them."`
	Eject     *Eject        `toml:"eject,inline" help:"Takes servers out for a while whose responses are errors; {} is enough."`
	SlowStart time.Duration `toml:"slow_start" default:"0s" min:"0s" help:"Time in which the share of a server that comes back grows to its whole."`
	// TLS is nil for servers without TLS.
	TLS            *BackendTLS `toml:"tls,inline" help:"TLS to the servers; {} is enough."`
	Resolve        Resolve     `toml:"resolve,inline" help:"How the names of servers are resolved."`
	Retry          Retry       `toml:"retry,inline" help:"When a request is sent again."`
	MaxRequests    int         `toml:"max_requests" default:"0" min:"0" max:"1000000000" help:"Most requests to one server at the same time; 0 for no limit."`
	MaxConnections int         `toml:"max_connections" default:"0" min:"0" max:"1000000000" help:"Most connections to one server; 0 for no limit."`
	Queue          *Queue      `toml:"queue,inline" help:"Where requests wait while every server has as many as it may; {} is enough. Default: they get 503."`
	Keep           KeepConns   `toml:"keep,inline" help:"How long connections are kept for further requests."`
	// Servers is never empty.
	Servers []Server `toml:"servers,inline" help:"The servers, at least one."`
}

// Balance is the algorithm that selects a server.
type Balance string

const (
	RoundRobin Balance = "round_robin"
	Least      Balance = "least"
	Latency    Balance = "latency"
	First      Balance = "first"
	Hash       Balance = "hash"
)

// Values are the texts of all algorithms.
func (Balance) Values() []string { return texts(RoundRobin, Least, Latency, First, Hash) }

// Sticky is the cookie that keeps clients on their servers.
type Sticky struct {
	Cookie string `toml:"cookie" as:"cookie_name" required:"" eg:"srv" help:"Name of the cookie."`
	// Key is empty for the key in the state directory.
	Key string `toml:"key" as:"file" eg:"/etc/mpgate/sticky.key" help:"File with the key that signs the cookie; default: sticky.key in state_dir."`
}

// Resolve is how the names of the servers of a backend are resolved.
type Resolve struct {
	// Every is 0 if the TTL of the answers counts.
	Every time.Duration `toml:"every" as:"every" eg:"30s" help:"Time after which names are resolved again; default: the TTL of the answers."`
	// Servers are empty for those of the system.
	Servers []netip.AddrPort `toml:"servers" as:"resolver" eg:"10.0.0.2:53" help:"Addresses of DNS servers to ask; default: those in /etc/resolv.conf."`
}

// Server is one address of a backend, or a name that stands for several: either Address or SRV is
// set. MPTCP, Source, Interface and MaxRequests default to those of the backend.
type Server struct {
	Address Address `toml:"address" required:"" unless:"srv" eg:"10.0.1.10:8080" help:"Address of the server: host:port or unix:PATH."`
	// All needs an Address with a name.
	All    bool   `toml:"all" default:"false" help:"Whether each address of the name is a server."`
	SRV    string `toml:"srv" as:"srv_name" eg:"_http._tcp.api.example.org" help:"Name of SRV records, each of which is a server."`
	Weight int    `toml:"weight" default:"1" min:"0" max:"1000" help:"Share of the requests, relative to the other servers; 0: nothing new."`
	Backup bool   `toml:"backup" default:"false" help:"Used only if no other server is available."`
	// MPTCP is mptcp.Off for Unix sockets.
	MPTCP     mptcp.Mode `toml:"mptcp" eg:"prefer" help:"Like the backend's, which is the default."`
	Source    netip.Addr `toml:"source" eg:"192.0.2.7" help:"Like the backend's, which is the default."`
	Interface string     `toml:"interface" as:"device" eg:"eth0" help:"Like the backend's, which is the default."`
	// MaxRequests is that of the backend if the server has none of its own.
	MaxRequests int `toml:"max_requests" eg:"100" min:"0" max:"1000000000" help:"Like the backend's, which is the default."`
}

// HasName reports whether the server has a name that must be resolved.
func (s *Server) HasName() bool {
	return s.SRV != "" || !s.Address.IsUnix() && !s.Address.IP().IsValid()
}

// Name is the address, or the name of the SRV records.
func (s *Server) Name() string {
	if s.SRV != "" {
		return s.SRV
	}
	return s.Address.String()
}

// BackendTLS is the configuration of TLS connections to servers.
type BackendTLS struct {
	CA         string `toml:"ca" as:"file" eg:"ca.pem" help:"File of the CA that signs the servers' certificates; default: the system's."`
	ServerName string `toml:"server_name" as:"host_name" eg:"api.internal" help:"Name for SNI and verification; default: the host of the address."`
	// SAN are names of which the server's certificate must contain one; empty: the server name.
	SAN    []string `toml:"san" as:"san" eg:"api.internal" help:"Names of which the server's certificate must have one."`
	Cert   string   `toml:"cert" as:"file" eg:"client.pem" help:"File of the client certificate; needs key."`
	Key    string   `toml:"key" as:"file" eg:"client.key" help:"File of the key of the client certificate."`
	Verify bool     `toml:"verify" default:"true" help:"Whether the server's certificate is verified."`
}
