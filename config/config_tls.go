package config

import (
	"slices"
	"time"
)

// TLS is the table [listener.tls]: the default policy, and the policies for certain names.
type TLS struct {
	// RefuseUnknown refuses clients that ask for a name without a policy and without a certificate.
	// Otherwise they get the first certificate.
	RefuseUnknown bool `toml:"refuse_unknown" default:"false" help:"Whether clients that ask for an unknown name are refused."`
	TLSPolicy     `without:"hosts"`
	Policies      []TLSPolicy `toml:"policy" help:"TLS for some names; what a policy leaves out is the listener's."`
}

// verifiesClients reports whether client certificates are verified, at least for some names. t may
// be nil.
func (t *TLS) verifiesClients() bool {
	verifies := func(p TLSPolicy) bool {
		return p.ClientAuth == ClientAuthVerifyIfGiven || p.ClientAuth == ClientAuthRequire
	}
	return t != nil && (verifies(t.TLSPolicy) || slices.ContainsFunc(t.Policies, verifies))
}

// TLSPolicy is the TLS configuration for some names. A [[listener.tls.policy]] inherits the keys
// that it does not set from its listener.
type TLSPolicy struct {
	// Hosts are the names of the policy, in the form of Match.Host. The listener's own policy has
	// none.
	Hosts        []string  `toml:"hosts" as:"cert_host" required:"name the hosts that the policy is for, for example hosts = [ \"api.example.org\" ]" eg:"api.example.org" help:"Names that the policy is for."`
	Certificates []KeyPair `toml:"certificates,inline" help:"Certificates and keys from files."`
	Local        bool      `toml:"local" default:"false" help:"Whether a local CA issues the certificate, for development."`
	LocalNames   []string  `toml:"local_names" as:"local_name" eg:"dev.internal" help:"Further names and addresses of the local certificate."`
	// MinVersion is a version number of crypto/tls.
	MinVersion uint16 `toml:"min_version" as:"tls_version" default:"1.2" help:"Lowest TLS version."`
	// HSTS is "" for none.
	HSTS string `toml:"hsts" as:"hsts" eg:"max-age=31536000" help:"Value of Strict-Transport-Security."`

	ClientAuth ClientAuth `toml:"client_auth" default:"off" help:"Whether clients are asked for a certificate."`
	ClientCA   string     `toml:"client_ca" as:"file" eg:"clients.pem" help:"File of the CA that signs the clients' certificates."`
	// ClientSAN are names of which a client's certificate must contain one; if empty, any
	// certificate is accepted. In a policy it is never nil.
	ClientSAN     []string      `toml:"client_san" as:"san" eg:"client.example.org" help:"Names of which a client's certificate must have one."`
	ClientHeaders ClientHeaders `toml:"client_headers,inline" help:"Header fields that tell servers who the client is."`

	// ACME is nil for none.
	ACME *ACME `toml:"acme" help:"Certificates from an ACME CA."`
}

// KeyPair names the files of a certificate, with its chain, and of its key.
type KeyPair struct {
	Cert string `toml:"cert" as:"file" required:"a pair is { cert = \"a.pem\", key = \"a.key\" }" eg:"example.org.pem" help:"File of the certificate and its chain."`
	Key  string `toml:"key" as:"file" required:"a pair is { cert = \"a.pem\", key = \"a.key\" }" eg:"example.org.key" help:"File of the key."`
}

// ClientAuth is how client certificates are requested and verified.
type ClientAuth string

const (
	ClientAuthOff           ClientAuth = "off"
	ClientAuthRequest       ClientAuth = "request" // requested, not verified
	ClientAuthVerifyIfGiven ClientAuth = "verify_if_given"
	ClientAuthRequire       ClientAuth = "require"
)

// Values are the texts of all modes.
func (ClientAuth) Values() []string {
	return texts(ClientAuthOff, ClientAuthRequest, ClientAuthVerifyIfGiven, ClientAuthRequire)
}

// ClientHeaders are the names of the header fields that tell a server who the client is, "" for a
// field that is not sent. Fields with these names are removed from requests. A SAN is DNS:x, IP:x,
// URI:x or email:x, separated by commas; each x is escaped as in a query.
type ClientHeaders struct {
	Subject     string `toml:"subject" as:"header" eg:"X-Client-Subject" help:"Field for the distinguished name (RFC 2253)."`
	Issuer      string `toml:"issuer" as:"header" eg:"X-Client-Issuer" help:"Field for the distinguished name of the issuer."`
	Serial      string `toml:"serial" as:"header" eg:"X-Client-Serial" help:"Field for the serial number, hexadecimal."`
	SAN         string `toml:"san" as:"header" eg:"X-Client-SAN" help:"Field for the names in the certificate."`
	Fingerprint string `toml:"fingerprint" as:"header" eg:"X-Client-Fingerprint" help:"Field for the SHA-256 of the certificate, hexadecimal."`
	Certificate string `toml:"certificate" as:"header" eg:"X-Client-Certificate" help:"Field for the certificate, PEM escaped as in a query."`
}

// ACME is the configuration for certificates from an ACME CA.
type ACME struct {
	Domains    []string    `toml:"domains" as:"cert_host" eg:"example.org" help:"Names to get certificates for; default in a policy: its hosts."`
	Email      string      `toml:"email" as:"email" eg:"admin@example.org" help:"Email address of the account at the CA."`
	CA         string      `toml:"ca" as:"https" default:"https://acme-v02.api.letsencrypt.org/directory" help:"URL of the CA's directory."`
	CARoot     string      `toml:"ca_root" as:"file" eg:"ca.pem" help:"File to verify the CA's own server with; default: the system's."`
	Challenges []Challenge `toml:"challenges" default:"http-01,tls-alpn-01" help:"How to prove control of a name; with dns the default is dns-01."`
	KeyType    KeyType     `toml:"key_type" default:"p256" help:"Type of the certificate's key."`
	// Profile is "" for the default of the CA.
	Profile string `toml:"profile" eg:"shortlived" help:"A profile that the CA offers."`
	EAB     *EAB   `toml:"eab,inline" help:"External account at the CA, if it wants one."`
	// DNS is nil for none. It is set if Challenges has DNS01.
	DNS *DNS `toml:"dns" help:"Who writes the DNS records of dns-01."`
}

// KeyType is the type of a certificate's key.
type KeyType string

const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	RSA4096 KeyType = "rsa4096"
)

// Values are the texts of all types.
func (KeyType) Values() []string { return texts(P256, P384, RSA2048, RSA4096) }

// Challenge is a method to prove control of a name.
type Challenge string

const (
	HTTP01    Challenge = "http-01"
	TLSALPN01 Challenge = "tls-alpn-01"
	DNS01     Challenge = "dns-01"
)

// Values are the texts of all challenges.
func (Challenge) Values() []string { return texts(HTTP01, TLSALPN01, DNS01) }

// EAB is an external account binding.
type EAB struct {
	KID string `toml:"kid" required:"an external account is { kid = \"…\", key = \"…\" }, both from the CA" eg:"kid-1" help:"Key identifier from the CA."`
	Key string `toml:"key,secret" as:"base64url" required:"an external account is { kid = \"…\", key = \"…\" }, both from the CA" eg:"${EAB_KEY}" help:"MAC key from the CA, base64url."`
}

// DNS is the solver that writes the records of dns-01: exactly one of RFC2136, Exec and Webhook.
type DNS struct {
	RFC2136 *RFC2136 `toml:"rfc2136,inline" group:"solver" help:"Server that takes dynamic updates, signed with TSIG."`
	// Exec is a program and its arguments.
	Exec    []string `toml:"exec" group:"solver" eg:"/usr/local/bin/dns-solver" help:"Program to run, and its arguments."`
	Webhook string   `toml:"webhook" group:"solver" as:"webhook" eg:"https://dns.internal/acme" help:"URL to call."`
	// WebhookToken is "" for none.
	WebhookToken string        `toml:"webhook_token,secret" eg:"${WEBHOOK_TOKEN}" help:"Bearer token for the webhook."`
	Resolvers    []Address     `toml:"resolvers" as:"dns_server" eg:"192.0.2.53:53" help:"DNS servers that must show a record; default: the system's and the zone's."`
	Delay        time.Duration `toml:"delay" default:"0s" min:"0s" help:"Time to wait before the first look for a record."`
	Timeout      time.Duration `toml:"timeout" default:"2m" min:"1s" help:"Longest time to look for a record."`
}

// RFC2136 is a DNS server that accepts dynamic updates.
type RFC2136 struct {
	Server Address `toml:"server" as:"dns_server" required:"name the server that takes updates, for example server = \"192.0.2.53:53\"" eg:"192.0.2.53:53" help:"host:port of the server."`
	// KeyName ends in a dot.
	KeyName   string   `toml:"key_name" as:"absolute_name" required:"updates are signed: name the TSIG key, for example key_name = \"mpgate.\"" eg:"mpgate." help:"Name of the TSIG key."`
	KeyAlg    TSIGHash `toml:"key_alg" default:"hmac-sha256" help:"Algorithm of the TSIG key."`
	KeySecret string   `toml:"key_secret,secret" as:"base64" required:"updates are signed: give the TSIG key as tsig-keygen prints it" eg:"${TSIG_SECRET}" help:"The TSIG key, base64."`
}

// TSIGHash is the algorithm of a TSIG key (RFC 8945).
type TSIGHash string

// Values are the texts of all algorithms.
func (TSIGHash) Values() []string {
	return []string{"hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"}
}
