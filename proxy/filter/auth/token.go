package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxToken = 8 << 10 // bytes
	// leeway is by how much the clocks of issuers may differ from ours.
	leeway = time.Minute
)

// Why a token is refused. The texts reach the client.
var (
	errMalformed  = errors.New("the token is malformed")
	errAlgorithm  = errors.New("the algorithm of the token is not allowed")
	errCritical   = errors.New("the token has extensions that are not supported")
	errUnknownKey = errors.New("no key is known for the token")
	errSignature  = errors.New("the signature of the token is not valid")
	errClaims     = errors.New("the claims of the token are malformed")
	errExpired    = errors.New("the token has expired")
	errNoExpiry   = errors.New("the token does not say when it expires")
	errNotYet     = errors.New("the token is not valid yet")
	errIssuer     = errors.New("the token is from another issuer")
	errAudience   = errors.New("the token is for another audience")
	errCarry      = errors.New("a claim of the token cannot be sent as a header field")
)

// token is a JSON Web Token (RFC 7519) whose signature was not checked yet.
type token struct {
	signed *jose.JSONWebSignature
	id     string // of the key; "": none
	alg    string
}

// parseToken parses the compact form of a token that is signed with one of the algorithms.
func parseToken(text []byte, algorithms []jose.SignatureAlgorithm) (t token, err error) {
	if len(text) > maxToken || bytes.Count(text, []byte(".")) != 2 {
		return t, errMalformed
	}
	for _, c := range text {
		if !alnum(c) && c != '-' && c != '_' && c != '.' {
			return t, errMalformed
		}
	}
	t.signed, err = jose.ParseSignedCompact(string(text), algorithms)
	if err != nil {
		var unexpected *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(err, &unexpected) {
			return t, errAlgorithm
		}
		return t, errMalformed
	}
	h := t.signed.Signatures[0].Protected
	if _, ok := h.ExtraHeaders["crit"]; ok { // RFC 7515 section 4.1.11
		return t, errCritical
	}
	t.id, t.alg = h.KeyID, h.Algorithm
	return t, nil
}

// verify checks the signature by the keys, and returns the claims.
func (t *token) verify(keys []*verifyKey) ([]byte, error) {
	for _, k := range keys {
		if payload, err := t.signed.Verify(k.key); err == nil {
			return payload, nil
		}
	}
	return nil, errSignature
}

// claims are what a token says.
type claims map[string]any

func parseClaims(payload []byte) (c claims, err error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&c); err != nil || c == nil || d.More() {
		return nil, errClaims
	}
	return c, nil
}

// expected is what a token must say.
type expected struct {
	issuer   string   // "": any
	audience []string // one of them; empty: any
}

// check returns when the token ends.
func (c claims) check(e *expected, now time.Time) (until time.Time, err error) {
	exp, found, err := c.date("exp")
	switch {
	case err != nil:
		return until, err
	case !found:
		return until, errNoExpiry
	case !now.Before(exp.Add(leeway)):
		return until, errExpired
	}
	for _, name := range []string{"nbf", "iat"} {
		from, found, err := c.date(name)
		if err != nil {
			return until, err
		}
		if found && now.Add(leeway).Before(from) {
			return until, errNotYet
		}
	}
	if e.issuer != "" && c["iss"] != e.issuer {
		return until, errIssuer
	}
	if len(e.audience) > 0 && !c.isFor(e.audience) {
		return until, errAudience
	}
	return exp.Add(leeway), nil
}

// date returns a NumericDate (RFC 7519 section 2).
func (c claims) date(name string) (at time.Time, found bool, err error) {
	v, found := c[name]
	if !found {
		return at, false, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return at, true, errClaims
	}
	s, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.Abs(s) > 1<<40 {
		return at, true, errClaims
	}
	return time.Unix(int64(math.Floor(s)), 0), true, nil
}

// isFor reports whether the audience, a string or a list of strings, has one of the names.
func (c claims) isFor(names []string) bool {
	list, ok := c["aud"].([]any)
	if !ok {
		list = []any{c["aud"]}
	}
	for _, a := range list {
		for _, name := range names {
			if a == name {
				return true
			}
		}
	}
	return false
}

// field returns a claim as the value of a header field; nil: the claim is missing or an object. A
// list becomes its elements with commas between them. A dot leads into an object, unless there is a
// claim of that name.
func (c claims) field(path string) (value []byte, err error) {
	v, found := c[path]
	for in := map[string]any(c); !found; {
		first, rest, dotted := strings.Cut(path, ".")
		v, found = in[first]
		if !dotted || !found {
			break
		}
		next, ok := v.(map[string]any)
		if !ok {
			return nil, nil
		}
		in, path = next, rest
		v, found = in[path]
	}
	if list, ok := v.([]any); ok {
		return joined(list)
	}
	text, ok := scalar(v)
	if !ok || text == "" {
		return nil, nil
	}
	if !fieldValue(text) {
		return nil, errCarry
	}
	return []byte(text), nil
}

func joined(list []any) (value []byte, err error) {
	for _, e := range list {
		text, ok := scalar(e)
		if !ok || text == "" || !fieldValue(text) || strings.Contains(text, ",") {
			return nil, errCarry
		}
		if len(value) > 0 {
			value = append(value, ',')
		}
		value = append(value, text...)
	}
	return value, nil
}

func scalar(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return string(v), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}
