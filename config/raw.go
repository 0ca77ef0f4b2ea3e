package config

import "strconv"

// The raw types mirror the file. A field's tag is the key; the options behind it are
//
//	one     a list that may be written as one string
//	inline  printed as an inline table (both forms are read)
//	secret  never printed, never quoted in a fault
//
// eg is a value that would do, for faults about a value of the wrong type.

// source is a file that was read.
type source struct {
	file  string
	order int    // among those that were read
	dir   string // absolute, what relative paths in the file start from
}

// place is where a value stands in the files, or would. A large configuration has very many of them.
type place struct {
	*source
	in      *place // the table or array; nil: the file itself
	step    string // the key in the table, or the name of an entry; "" with entry: it goes by its number
	number  int32  // of an entry of an array
	line    int32
	entry   bool // of an array
	written bool
	unset   bool // a variable in it is not set, so that its value says nothing
	secret  bool
}

// child is the place of a key that was left out of the table.
func (p *place) child(key string) place {
	return place{source: p.source, in: p, step: key, line: p.line, secret: p.secret}
}

// key is the path that leads to the place, as in faults.
func (p *place) key() string {
	switch {
	case p.in == nil:
		return ""
	case p.entry && p.step == "":
		return p.in.key() + "[" + strconv.Itoa(int(p.number)) + "]"
	}
	return joinKey(p.in.key(), p.step)
}

// The leaves.
type (
	str struct {
		At *place
		V  string
	}
	num struct {
		At *place
		V  int64
	}
	flag struct {
		At *place
		V  bool
	}
	list struct {
		At *place
		V  []str
	}
)

// tbl is embedded in every table.
type tbl struct{ At *place }

func (t *tbl) setAt(at *place) { t.At = at }

type rawConfig struct {
	tbl
	Include  list `toml:"include" eg:"conf.d/*.toml"`
	StateDir str  `toml:"state_dir" eg:"/var/lib/mpgate"`

	Log      rawLog      `toml:"log"`
	Admin    rawAdmin    `toml:"admin"`
	Shutdown rawShutdown `toml:"shutdown"`
	Limits   rawLimits   `toml:"limits"`
	MPTCP    rawMPTCP    `toml:"mptcp"`

	Listeners []*rawListener `toml:"listener"`
	Routes    []*rawRoute    `toml:"route"`
	Backends  []*rawBackend  `toml:"backend"`
}

type rawLog struct {
	tbl
	Level  str `toml:"level" eg:"info"`
	Format str `toml:"format" eg:"json"`
	Access str `toml:"access" eg:"stdout"`
}

type rawAdmin struct {
	tbl
	Address str `toml:"address" eg:"127.0.0.1:9080"`
}

type rawShutdown struct {
	tbl
	Drain str `toml:"drain" eg:"30s"`
}

type rawLimits struct {
	tbl
	HeaderBytes          str `toml:"header_bytes" eg:"32KiB"`
	HeaderFields         num `toml:"header_fields" eg:"100"`
	HeaderTime           str `toml:"header_time" eg:"10s"`
	IdleTime             str `toml:"idle_time" eg:"60s"`
	MinRate              str `toml:"min_rate" eg:"256B"`
	Connections          num `toml:"connections" eg:"0"`
	ConnectionsPerClient num `toml:"connections_per_client" eg:"0"`
}

type rawMPTCP struct {
	tbl
	Enabled  flag           `toml:"enabled" eg:"true"`
	Manage   str            `toml:"manage" eg:"off"`
	Adopt    flag           `toml:"adopt" eg:"false"`
	Keep     flag           `toml:"keep" eg:"false"`
	Failover str            `toml:"failover" eg:"off"`
	Fullmesh flag           `toml:"fullmesh" eg:"false"`
	Limits   rawMPTCPLimits `toml:"limits,inline"`
	Paths    []*rawPath     `toml:"paths,inline"`
}

type rawMPTCPLimits struct {
	tbl
	Subflows        num `toml:"subflows" eg:"4"`
	AddAddrAccepted num `toml:"add_addr_accepted" eg:"4"`
}

type rawPath struct {
	tbl
	Name      str  `toml:"name" eg:"lte"`
	Interface str  `toml:"interface" eg:"eth0"`
	Address   str  `toml:"address" eg:"192.0.2.7"`
	Role      str  `toml:"role" eg:"both"`
	Backup    flag `toml:"backup" eg:"false"`
	Announce  flag `toml:"announce" eg:"false"`
	Port      num  `toml:"port" eg:"8443"`
}

type rawListener struct {
	tbl
	Name              str     `toml:"name" eg:"web"`
	Address           list    `toml:"address,one" eg:"0.0.0.0:8080"`
	Mode              str     `toml:"mode" eg:"0660"`
	Systemd           str     `toml:"systemd" eg:"web"`
	MPTCP             str     `toml:"mptcp" eg:"prefer"`
	Interface         str     `toml:"interface" eg:"eth0"`
	Protocols         list    `toml:"protocols" eg:"h1"`
	TrustedProxies    list    `toml:"trusted_proxies" eg:"10.0.0.0/8"`
	ProxyProtocol     str     `toml:"proxy_protocol" eg:"off"`
	ProxyProtocolFrom list    `toml:"proxy_protocol_from" eg:"10.0.0.0/8"`
	RedirectHTTPS     flag    `toml:"redirect_https" eg:"false"`
	HealthPath        str     `toml:"health_path" eg:"/healthz"`
	TLS               *rawTLS `toml:"tls"`
}

// rawTLSKeys are the keys that a listener's tls table and each policy in it have.
type rawTLSKeys struct {
	Certificates  []*rawKeyPair    `toml:"certificates,inline"`
	Local         flag             `toml:"local" eg:"false"`
	LocalNames    list             `toml:"local_names" eg:"dev.internal"`
	MinVersion    str              `toml:"min_version" eg:"1.2"`
	HSTS          str              `toml:"hsts" eg:"max-age=31536000"`
	ClientAuth    str              `toml:"client_auth" eg:"off"`
	ClientCA      str              `toml:"client_ca" eg:"clients.pem"`
	ClientSAN     list             `toml:"client_san" eg:"client.example.org"`
	ClientHeaders rawClientHeaders `toml:"client_headers,inline"`
	ACME          *rawACME         `toml:"acme"`
}

type rawTLS struct {
	tbl
	RefuseUnknown flag `toml:"refuse_unknown" eg:"false"`
	rawTLSKeys
	Policies []*rawPolicy `toml:"policy"`
}

type rawPolicy struct {
	tbl
	Hosts list `toml:"hosts" eg:"api.example.org"`
	rawTLSKeys
}

type rawKeyPair struct {
	tbl
	Cert str `toml:"cert" eg:"example.org.pem"`
	Key  str `toml:"key" eg:"example.org.key"`
}

type rawClientHeaders struct {
	tbl
	Subject     str `toml:"subject" eg:"X-Client-Subject"`
	Issuer      str `toml:"issuer" eg:"X-Client-Issuer"`
	Serial      str `toml:"serial" eg:"X-Client-Serial"`
	SAN         str `toml:"san" eg:"X-Client-SAN"`
	Fingerprint str `toml:"fingerprint" eg:"X-Client-Fingerprint"`
	Certificate str `toml:"certificate" eg:"X-Client-Certificate"`
}

type rawACME struct {
	tbl
	Domains    list    `toml:"domains" eg:"example.org"`
	Email      str     `toml:"email" eg:"admin@example.org"`
	CA         str     `toml:"ca" eg:"https://acme-v02.api.letsencrypt.org/directory"`
	CARoot     str     `toml:"ca_root" eg:"ca.pem"`
	Challenges list    `toml:"challenges" eg:"http-01"`
	KeyType    str     `toml:"key_type" eg:"p256"`
	Profile    str     `toml:"profile" eg:"shortlived"`
	EAB        *rawEAB `toml:"eab,inline"`
	DNS        *rawDNS `toml:"dns"`
}

type rawEAB struct {
	tbl
	KID str `toml:"kid" eg:"kid-1"`
	Key str `toml:"key,secret" eg:"${EAB_KEY}"`
}

type rawDNS struct {
	tbl
	Exec         list        `toml:"exec" eg:"/usr/local/bin/dns-solver"`
	Webhook      str         `toml:"webhook" eg:"https://dns.internal/acme"`
	WebhookToken str         `toml:"webhook_token,secret" eg:"${WEBHOOK_TOKEN}"`
	Resolvers    list        `toml:"resolvers" eg:"192.0.2.53:53"`
	Delay        str         `toml:"delay" eg:"0s"`
	Timeout      str         `toml:"timeout" eg:"2m"`
	RFC2136      *rawRFC2136 `toml:"rfc2136,inline"`
}

type rawRFC2136 struct {
	tbl
	Server    str `toml:"server" eg:"192.0.2.53:53"`
	KeyName   str `toml:"key_name" eg:"mpgate."`
	KeyAlg    str `toml:"key_alg" eg:"hmac-sha256"`
	KeySecret str `toml:"key_secret,secret" eg:"${TSIG_SECRET}"`
}

type rawRoute struct {
	tbl
	Name              str      `toml:"name" eg:"api"`
	Match             rawMatch `toml:"match,inline"`
	Backend           str      `toml:"backend" eg:"api"`
	EncodedSlash      str      `toml:"encoded_slash" eg:"reject"`
	DuplicateSlashes  str      `toml:"duplicate_slashes" eg:"merge"`
	UnsafeHeaderNames str      `toml:"unsafe_header_names" eg:"drop"`
}

type rawMatch struct {
	tbl
	Host     str `toml:"host" eg:"example.org"`
	Path     str `toml:"path" eg:"/api/*"`
	Listener str `toml:"listener" eg:"web"`
	SNI      str `toml:"sni" eg:"example.org"`
}

type rawBackend struct {
	tbl
	Name            str            `toml:"name" eg:"api"`
	Balance         str            `toml:"balance" eg:"round_robin"`
	Protocol        str            `toml:"protocol" eg:"h1"`
	MPTCP           str            `toml:"mptcp" eg:"prefer"`
	ConnectTimeout  str            `toml:"connect_timeout" eg:"5s"`
	ResponseTimeout str            `toml:"response_timeout" eg:"60s"`
	IdleTimeout     str            `toml:"idle_timeout" eg:"60s"`
	SendProxy       str            `toml:"send_proxy" eg:"off"`
	Source          str            `toml:"source" eg:"192.0.2.7"`
	Interface       str            `toml:"interface" eg:"eth0"`
	TLS             *rawBackendTLS `toml:"tls,inline"`
	Servers         []*rawServer   `toml:"servers,inline"`
}

type rawBackendTLS struct {
	tbl
	CA         str  `toml:"ca" eg:"ca.pem"`
	ServerName str  `toml:"server_name" eg:"api.internal"`
	SAN        list `toml:"san" eg:"api.internal"`
	Cert       str  `toml:"cert" eg:"client.pem"`
	Key        str  `toml:"key" eg:"client.key"`
	Verify     flag `toml:"verify" eg:"true"`
}

type rawServer struct {
	tbl
	Address   str `toml:"address" eg:"10.0.1.10:8080"`
	Weight    num `toml:"weight" eg:"1"`
	MPTCP     str `toml:"mptcp" eg:"prefer"`
	Source    str `toml:"source" eg:"192.0.2.7"`
	Interface str `toml:"interface" eg:"eth0"`
}
