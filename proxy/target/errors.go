package target

import "errors"

// Errors of Path. They are fixed values, so that a flood of bad requests allocates nothing; the
// caller has the path to quote.
var (
	ErrPathStart     = errors.New("path: does not begin with a slash")
	ErrPathControl   = errors.New("path: a space, control character, \"?\" or \"#\" is not percent-encoded")
	ErrPathBackslash = errors.New("path: contains a backslash, which some servers read as a slash")
	ErrPathEscape    = errors.New("path: a percent sign is not followed by two hexadecimal digits")
	ErrPathNUL       = errors.New("path: %00 ends the path for some servers")
	ErrPathAboveRoot = errors.New("path: its dot segments lead above the root")
	ErrPathHidden    = errors.New("path: an encoded slash, an encoded backslash or a semicolon hides a dot segment")
)

// Errors of Query.
var ErrQuery = errors.New("query: a space, control character or \"#\" is not percent-encoded")

// Errors of Host.
var (
	ErrHostEmpty = errors.New("host: empty")
	ErrHostLong  = errors.New("host: longer than 253 bytes")
	ErrHostByte  = errors.New("host: has characters other than letters, digits, \"-\", \".\" and \"_\"")
	ErrHostLabel = errors.New("host: a label is empty")
	ErrHostIPv6  = errors.New("host: the text in brackets is not an IPv6 address without a zone")
	ErrHostPort  = errors.New("host: the port is not a number up to 65535")
)

// Errors of Split.
var (
	ErrTargetEmpty     = errors.New("request target: empty")
	ErrTargetForm      = errors.New("request target: neither a path, nor an http or https URL, nor \"*\"")
	ErrTargetAsterisk  = errors.New("request target: \"*\" is for OPTIONS only")
	ErrTargetConnect   = errors.New("request target: CONNECT requires host:port")
	ErrTargetAuthority = errors.New("request target: the URL has no host, or has a user")
)
