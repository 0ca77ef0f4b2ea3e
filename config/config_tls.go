package config

import "time"

// TLS is the table [listener.tls]: the policy for names that no other one has, and the policies for those that one has.
type TLS struct {
	TLSPolicy
	// RefuseUnknown refuses clients that ask for a name which neither a policy nor a certificate covers; else they get the first certificate.
	RefuseUnknown bool
	Policies      []TLSPolicy
}

// TLSPolicy is how TLS is spoken for some names. What a [[listener.tls.policy]] leaves out is the listener's.
type TLSPolicy struct {
	// Hosts are the names that the policy is for, in the form of Match.Host; none for the listener's own.
	Hosts        []string
	Certificates []KeyPair
	ACME         *ACME    // nil: none
	Local        bool     // a certificate from the local CA
	LocalNames   []string // further names and addresses for it
	// MinVersion is a crypto/tls version number.
	MinVersion uint16
	HSTS       string // the value of Strict-Transport-Security, "" for none

	ClientAuth ClientAuth
	ClientCA   string // a file
	// ClientSAN are names of which a client's certificate must have one; none: any will do. In a policy it never is nil.
	ClientSAN     []string
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
	SAN         string // the names, as DNS:x, IP:x, URI:x, email:x, with commas between; each x is escaped as in a query
	Fingerprint string // SHA-256 of the certificate, hexadecimal
	Certificate string // the certificate itself, PEM escaped as in a query
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
	KeyType    KeyType
	Profile    string // one that the CA's directory offers; "": its default
}

// KeyType is the kind of a certificate's key.
type KeyType string

const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	RSA4096 KeyType = "rsa4096"
)

// Challenge is a way to prove control of a name.
type Challenge string

const (
	HTTP01    Challenge = "http-01"
	TLSALPN01 Challenge = "tls-alpn-01"
	DNS01     Challenge = "dns-01"
)

// EAB is an external account binding.
type EAB struct{ KID, Key string }

// DNS is who writes the records of dns-01: exactly one of RFC2136, Exec and Webhook.
type DNS struct {
	RFC2136 *RFC2136
	// Exec is a program and its arguments.
	Exec         []string
	Webhook      string // URL
	WebhookToken string // sent as a bearer token, "" for none

	Resolvers []Address     // who is asked whether a record can be seen; none: the system's, and the zone's own servers
	Delay     time.Duration // before the first look
	Timeout   time.Duration // of the looking
}

// RFC2136 is a server that takes dynamic updates.
type RFC2136 struct {
	Server    Address
	KeyName   string // of the TSIG key, with the dot at the end
	KeyAlg    string // hmac-sha256, …
	KeySecret string // base64
}
