package config

import (
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"
)

// Config is a whole configuration. It holds parsed values only, no live object, and is not changed after [Load].
// Every table of it can be compared by reflect.DeepEqual.
type Config struct {
	// StateDir is where certificates and other state live: an absolute path.
	StateDir string
	Log      Log
	Admin    Admin
	Shutdown Shutdown
	Limits   Limits
	MPTCP    MPTCP

	Listeners []Listener
	Routes    []Route
	Backends  []Backend

	// Files are the files that were read, the main one first, as they are named in faults.
	Files []string
	// Warnings are what can be served but probably is not meant, sorted by place.
	Warnings []Fault

	places *places
}

// Equal reports whether both say the same, wherever it stands in the files.
func (c *Config) Equal(o *Config) bool {
	a, b := *c, *o
	a.Files, a.Warnings, a.places = nil, nil, nil
	b.Files, b.Warnings, b.places = nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// Log is the table [log].
type Log struct {
	Level  slog.Level
	Format LogFormat
	// Access is AccessStdout, AccessStderr, AccessOff, or else the absolute path of a file.
	Access string
}

// LogFormat is how the program's own log and the access log are written.
type LogFormat string

const (
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)

// The access logs that are not files.
const (
	AccessStdout = "stdout"
	AccessStderr = "stderr"
	AccessOff    = "off"
)

// Admin is the table [admin].
type Admin struct {
	Off     bool
	Address Address // zero when off
	// Written says that the address stands in the file. One that cannot be had is then an error, and a warning when it is the default.
	Written bool
}

// Shutdown is the table [shutdown].
type Shutdown struct {
	Drain time.Duration // 0: requests in flight are ended at once
}

// Limits is the table [limits].
type Limits struct {
	HeaderBytes          int64
	HeaderFields         int
	HeaderTime           time.Duration
	IdleTime             time.Duration
	MinRate              int64 // bytes a second; 0: no minimum
	Connections          int   // 0: from RLIMIT_NOFILE
	ConnectionsPerClient int   // 0: no limit
}

// MPTCPMode is what a listener or a dial asks for. The zero value is not valid: a Config always has one of the three.
type MPTCPMode string

const (
	MPTCPPrefer  MPTCPMode = "prefer"
	MPTCPRequire MPTCPMode = "require"
	MPTCPOff     MPTCPMode = "off"
)

// MPTCP is the table [mptcp].
type MPTCP struct {
	Enabled  bool
	Manage   Manage
	Adopt    bool
	Keep     bool
	Failover Failover
	Fullmesh bool
	Limits   MPTCPLimits
	Paths    []Path
}

// Manage is what mpgate does about the host's MPTCP endpoints and limits.
type Manage string

const (
	ManageOff   Manage = "off"
	ManageWatch Manage = "watch"
	ManageSync  Manage = "sync"
)

// Failover is which paths' subflows mpgate ends.
type Failover string

const (
	FailoverOff    Failover = "off"
	FailoverLink   Failover = "link"   // of paths that went down
	FailoverActive Failover = "active" // and of paths that went silent
)

// MPTCPLimits are the kernel's limits of the namespace.
type MPTCPLimits struct {
	Subflows        int
	AddAddrAccepted int
}

// Path is one of mptcp.paths. It has an interface, an address, or both.
type Path struct {
	Name      string // as written, else the interface, else the address; unique
	Interface string
	Address   netip.Addr
	Role      PathRole
	Backup    bool
	Announce  bool
	Port      uint16 // 0: the port of the connection
}

// PathRole says which connections may use a path.
type PathRole string

const (
	RoleBoth     PathRole = "both"
	RoleListener PathRole = "listener" // announced to clients
	RoleBackend  PathRole = "backend"  // used for dials
)

// Listener is one [[listener]].
type Listener struct {
	Name      string
	Addresses []Address // may be empty with Systemd
	// Mode is for the unix sockets among the addresses.
	Mode os.FileMode
	// Systemd is the FileDescriptorName whose inherited sockets the listener takes, "" for none.
	Systemd           string
	MPTCP             MPTCPMode
	Interface         string
	Protocols         []Protocol // never empty
	TrustedProxies    []netip.Prefix
	TrustUnix         bool // see TrustsUnix
	ProxyProtocol     ProxyProtocol
	ProxyProtocolFrom []netip.Prefix
	RedirectHTTPS     bool
	HealthPath        string // "" for none
	TLS               *TLS   // nil: the listener speaks no TLS
}

// TrustsUnix reports whether peers on unix sockets are trusted proxies: by their name, or because
// everybody is.
func (l *Listener) TrustsUnix() bool {
	return l.TrustUnix || slices.ContainsFunc(l.TrustedProxies, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// Speaks reports whether the listener may speak p.
func (l *Listener) Speaks(p Protocol) bool {
	for _, q := range l.Protocols {
		if p == q {
			return true
		}
	}
	return false
}

// Protocol is what is spoken on a listener or to a backend.
type Protocol string

const (
	H1  Protocol = "h1"
	H2  Protocol = "h2"  // over TLS
	H2C Protocol = "h2c" // without TLS, by prior knowledge
	// Auto, for backends only, is what ALPN says over TLS and h1 without.
	Auto Protocol = "auto"
)

// ProxyProtocol is whether connections begin with a PROXY header.
type ProxyProtocol string

const (
	ProxyOff      ProxyProtocol = "off"
	ProxyOptional ProxyProtocol = "optional"
	ProxyRequired ProxyProtocol = "required"
)

// Route is one [[route]].
type Route struct {
	Name              string
	Match             Match
	Backend           string // the name of a Backend of the same Config
	EncodedSlash      Choice // Reject or Keep
	DuplicateSlashes  Choice // Merge or Keep
	UnsafeHeaderNames Choice // Drop or Keep
}

// Choice is what to do with something doubtful in a request.
type Choice string

const (
	Reject Choice = "reject"
	Drop   Choice = "drop"
	Merge  Choice = "merge"
	Keep   Choice = "keep"
)

// Match is what requests a route takes; an empty field takes all. With SNI both Host and Path are empty.
type Match struct {
	Host     string // lower case, without port or trailing dot; "*.example.org" is any one label before example.org
	Path     string // canonical; "/api/*" is /api and all below it by segment, anything else the one path
	Listener string // the name of a Listener of the same Config
	SNI      string // like Host
}

// Backend is one [[backend]].
type Backend struct {
	Name            string
	Balance         Balance
	Protocol        Protocol
	MPTCP           MPTCPMode
	ConnectTimeout  time.Duration
	ResponseTimeout time.Duration
	IdleTimeout     time.Duration
	SendProxy       SendProxy
	Source          netip.Addr // invalid: the kernel chooses
	Interface       string
	TLS             *BackendTLS // nil: no TLS
	Servers         []Server    // never empty
}

// Balance is how a server is chosen.
type Balance string

const RoundRobin Balance = "round_robin"

// SendProxy is the PROXY header that a connection to a server begins with.
type SendProxy string

const (
	SendProxyOff SendProxy = "off"
	SendProxyV1  SendProxy = "v1"
	SendProxyV2  SendProxy = "v2"
)

// Server is one address of a backend. MPTCP, Source and Interface are the backend's where the server has none of its own.
type Server struct {
	Address   Address
	Weight    int
	MPTCP     MPTCPMode // MPTCPOff for unix sockets
	Source    netip.Addr
	Interface string
}

// BackendTLS is how TLS is spoken to servers.
type BackendTLS struct {
	CA         string   // a file; "": the system's
	ServerName string   // "": the host of the server's address
	SAN        []string // one of them must be in the server's certificate; empty: the server name
	Cert, Key  string   // files of our own certificate; both or neither
	Verify     bool
}
