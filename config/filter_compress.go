package config

import (
	"strings"

	"mpgate/proxy/coding"
)

// Compress are the options of filter.Compress.
type Compress struct {
	// Types is nil for filter.CompressTypes.
	Types     []string        `toml:"types,one" as:"media_range" eg:"text/*" help:"Media types to compress; default: text, JSON, XML and similar."`
	Min       int64           `toml:"min" as:"size" default:"1KiB" min:"0" max:"1GiB" help:"Minimum length of a body to compress, if it is known."`
	Encodings []coding.Coding `toml:"encodings,one" only:"zstd,gzip" default:"zstd,gzip" help:"Content codings, the preferred one first."`
	Level     int             `toml:"level" default:"0" min:"0" max:"9" help:"From 1, the fastest, to 9, the smallest; 0 is a compromise."`
}

// mediaRange is a media type of compress.types, in lower case.
func mediaRange(s, _ string) (string, string) {
	const want = `; must be for example "application/json", "text/*" or "*/*+json"`
	t := strings.ToLower(s)
	kind, subtype, found := strings.Cut(t, "/")
	switch {
	case !found:
		return "", "is not a media type" + want
	case kind == "*" && (!strings.HasPrefix(subtype, "*+") || !isToken(subtype[2:])):
		return "", "is a wildcard for types that must not be compressed, such as images" + want
	case kind != "*" && !isToken(kind), kind != "*" && subtype != "*" && !isToken(subtype):
		return "", "is not a media type" + want
	case t == "text/event-stream" || strings.HasPrefix(t, "application/grpc"):
		return "", "is a stream of messages, which is never compressed; leave it out"
	}
	return t, ""
}

// isToken reports whether s is a name of a media type (RFC 6838 section 4.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$&-^_.+", rune(c)) {
			return false
		}
	}
	return s != ""
}

func (c routeCheck) compress(o *Compress, n *node) {
	if len(o.Encodings) == 0 && !n.unset("encodings") {
		c.fault(n.get("encodings").at, `is empty; must have "zstd", "gzip" or both; compress = false compresses nothing`)
	}
	for i, e := range o.Encodings {
		for _, before := range o.Encodings[:i] {
			if e == before && e != 0 {
				c.fault(n.get("encodings").item(i).at, "is in the list twice%s; remove it", n.get("encodings").item(i).got())
			}
		}
	}
}
