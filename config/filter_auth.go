package config

import (
	"slices"
	"strings"
	"time"

	"mpgate/proxy/target"
)

// BasicAuth is the key basic_auth of a route.
type BasicAuth struct {
	Users string `toml:"users" as:"file" required:"name the htpasswd file, for example users = \"htpasswd\"" eg:"htpasswd" help:"An htpasswd file with hashes of bcrypt or argon2id."`
	Realm string `toml:"realm" as:"realm" default:"Restricted" help:"What browsers show when they ask for the password."`
}

// JWT is the key jwt of a route.
type JWT struct {
	JWKS       string   `toml:"jwks" group:"key source" as:"http_url" eg:"https://issuer.example/jwks.json" help:"URL of the keys, a JSON Web Key Set."`
	Keys       string   `toml:"keys" group:"key source" as:"file" eg:"keys.json" help:"File of the keys: a JSON Web Key Set, or public keys in PEM."`
	CA         string   `toml:"ca" as:"file" eg:"ca.pem" help:"File with the CA that the server of jwks is verified with; default: the system's."`
	Issuer     string   `toml:"issuer" eg:"https://issuer.example" help:"Required value of the claim iss."`
	Audience   []string `toml:"audience,one" eg:"api" help:"Values of which one must be in the claim aud."`
	Algorithms []string `toml:"algorithms" as:"jwt_algorithm" eg:"ES256" help:"Algorithms that are allowed; default: all with public keys."`
	// From is a header field, or "cookie.NAME".
	From   string            `toml:"from" as:"token_source" default:"Authorization" help:"Header field with the token, or cookie.NAME."`
	Claims map[string]string `toml:"claims" names:"user_field" as:"claim" eg:"X-User = \"sub\"" help:"Header fields for the server, and the claims that they are set to."`
}

// ForwardAuth is the key forward_auth of a route.
type ForwardAuth struct {
	URL     string        `toml:"url" group:"authentication server" as:"http_url" eg:"http://127.0.0.1:9091/verify" help:"URL of the authentication server."`
	Backend string        `toml:"backend" group:"authentication server" eg:"auth" help:"Backend with the authentication servers, instead of a URL."`
	Path    string        `toml:"path" as:"path_query" eg:"/verify" help:"With backend: the path to request; default: /."`
	CA      string        `toml:"ca" as:"file" eg:"ca.pem" help:"File with the CA that the server of url is verified with; default: the system's."`
	Copy    []string      `toml:"copy,one" as:"user_field" eg:"Remote-User" help:"Header fields to copy from the answer to the request."`
	Send    []string      `toml:"send,one" as:"user_field" default:"Accept,Authorization,Cookie,User-Agent,X-Requested-With" help:"Header fields of the request to send to the authentication server."`
	Timeout time.Duration `toml:"timeout" default:"5s" min:"1ms" help:"Longest time until the answer is complete."`
}

// symmetric reports whether an algorithm uses a shared secret.
func symmetric(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

func (l *loader) checkJWT(j *JWT, n *node) {
	if j.JWKS != "" && slices.ContainsFunc(j.Algorithms, symmetric) {
		l.fault(n.get("algorithms").at, "names an algorithm with a shared secret, which a URL cannot give; write keys = FILE, or leave the algorithm out")
	}
	l.checkCA(j.CA, j.JWKS, "jwks", n)
	for name := range j.Claims {
		if strings.EqualFold(name, j.From) {
			l.fault(n.get("claims").at, "sets the header field that the token is in (%s); name another field", name)
		}
	}
}

func (l *loader) checkForwardAuth(f *ForwardAuth, n *node) {
	if f.URL != "" && f.Path != "" {
		l.fault(n.get("path").at, "is for backend; url has a path of its own: leave one of the two out")
	}
	l.checkCA(f.CA, f.URL, "url", n)
}

// checkCA reports a CA for a URL that it does not concern.
func (l *loader) checkCA(ca, url, key string, n *node) {
	if ca != "" && !strings.HasPrefix(url, "https:") && !n.unset(key) {
		l.fault(n.get("ca").at, "is for %s with https; leave it out", key)
	}
}

// httpURL parses a URL that mpgate itself asks for.
func httpURL(s, _ string) (string, string) {
	u, err := target.ParseURL(s)
	if err != nil {
		return "", `is not a valid URL; must be for example "https://host/path", without a user and a fragment`
	}
	return u.String(), ""
}

// pathQuery parses a path with a query.
func pathQuery(s, _ string) (string, string) {
	u, err := target.ParsePath(s)
	if err != nil {
		return "", `is not a valid path; must begin with /, for example "/verify?from=gateway"`
	}
	return u.String(), ""
}

// realm parses the realm of a challenge (RFC 9110 section 11.5).
func realm(s, _ string) (string, string) {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return "", "has other characters than printable ASCII"
		}
	}
	return s, ""
}

// aboutMessage are fields that are about a message or its way, beside those in reserved.
var aboutMessage = []string{
	"cdn-loop", "content-encoding", "content-range", "content-type", "date", "forwarded", "http2-settings", "max-forwards",
	"proxy-authenticate", "range", "via", "x-forwarded-method", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-scheme",
	"x-forwarded-server", "x-forwarded-ssl", "x-forwarded-uri", "x-real-ip",
}

// userField is the name of a field that says something about the user.
func userField(s, _ string) (string, string) {
	if s == "" {
		return "", `is empty; must be a header field, for example "X-User"`
	}
	if slices.Contains(aboutMessage, strings.ToLower(s)) {
		return "", `is about the message and not about the user; choose another, for example "X-User"`
	}
	if _, problem := headerName(s, ""); problem != "" {
		return "", strings.ReplaceAll(problem, "X-Client-Subject", "X-User")
	}
	return s, ""
}

// tokenSource is a header field, or a cookie.
func tokenSource(s, _ string) (string, string) {
	name, cookie := strings.CutPrefix(s, "cookie.")
	if _, problem := fieldName(name, ""); problem != "" || name == "" || !cookie && strings.Contains(name, ".") {
		return "", `is neither a header field nor a cookie; must be for example "Authorization", "X-Token" or "cookie.session"`
	}
	return s, ""
}

// claim is the name of a claim, or a path to one.
func claim(s, _ string) (string, string) {
	if s == "" {
		return "", `is empty; must be a claim, for example "sub" or "realm_access.roles"`
	}
	return s, ""
}

// jwtAlgorithms are those that tokens may have.
var jwtAlgorithms = func() codec {
	values := []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
	}
	c := of(func(s, _ string) (string, string) {
		if !slices.Contains(values, s) {
			return "", notOneOf(s, values)
		}
		return s, ""
	}, same)
	c.values = values
	return c
}()
