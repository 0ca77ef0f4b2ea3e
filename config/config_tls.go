package config

// TLS is the table [listener.tls]: the policy for names that no other one has, and the policies for those that one has.
type TLS struct {
	TLSPolicy
	Policies []TLSPolicy
}

// TLSPolicy is how TLS is spoken for some names. What a [[listener.tls.policy]] leaves out is the listener's.
type TLSPolicy struct {
	// Hosts are the names that the policy is for, in the form of Match.Host; none for the listener's own.
	Hosts        []string
	Certificates []KeyPair
	ACME         *ACME // nil: none
	Local        bool  // a certificate from the local CA
	// MinVersion is a crypto/tls version number.
	MinVersion uint16
	HSTS       string // the value of Strict-Transport-Security, "" for none

	ClientAuth    ClientAuth
	ClientCA      string   // a file
	ClientSAN     []string // names of which a client's certificate must have one; empty: any
	ClientHeaders ClientHeaders
}

// KeyPair is a certificate (with its chain) and its key, both files.
type KeyPair struct{ Cert, Key string }

// ClientAuth is what is asked of clients.
type ClientAuth string

const (
	ClientAuthOff           ClientAuth = "off"
	ClientAuthRequest       ClientAuth = "request" // asked for, not verified
	ClientAuthVerifyIfGiven ClientAuth = "verify_if_given"
	ClientAuthRequire       ClientAuth = "require"
)

// ClientHeaders are the header fields that tell a server who the client is, "" for those that are not sent. All that have a name are taken
// off what a client sends.
type ClientHeaders struct {
	Subject     string // the distinguished name, RFC 2253
	Issuer      string // of the issuer, likewise
	Serial      string // hexadecimal
	SAN         string // the names, as DNS:x, IP:x, URI:x, email:x, with commas between
	Fingerprint string // SHA-256 of the certificate, hexadecimal
	Certificate string // the certificate itself, base64 of DER
}

// ACME is how certificates are obtained.
type ACME struct {
	Domains    []string
	Email      string
	CA         string // URL of the directory
	CARoot     string // a file; "": the system's
	Challenges []Challenge
	EAB        *EAB // nil: none
	DNS        *DNS // nil: none; set when Challenges has DNS01
	// Storage is the directory of accounts and certificates.
	Storage string
}

// Challenge is a way to prove control of a name.
type Challenge string

const (
	HTTP01    Challenge = "http-01"
	TLSALPN01 Challenge = "tls-alpn-01"
	DNS01     Challenge = "dns-01"
)

// EAB is an external account binding.
type EAB struct{ KID, Key string }

// DNS is who writes the records of dns-01: exactly one of the three.
type DNS struct {
	RFC2136 *RFC2136
	// Exec is a program and its arguments.
	Exec    []string
	Webhook string // URL
}

// RFC2136 is a server that takes dynamic updates.
type RFC2136 struct {
	Server    Address
	Zone      string // with the dot at the end
	KeyName   string // TSIG; with the dot at the end; "": unsigned
	KeyAlg    string // hmac-sha256, …
	KeySecret string // base64
}
