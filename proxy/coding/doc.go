// Package coding negotiates content codings (RFC 9110 sections 8.4.1 and 12.5.3). Compression of
// responses and the choice of precompressed files use the same rules.
package coding

// Coding is a content coding.
type Coding uint8

const (
	Identity Coding = iota // no coding
	Gzip
	Brotli
	Zstd
	codings
)

var names = [codings]string{Identity: "identity", Gzip: "gzip", Brotli: "br", Zstd: "zstd"}

// String is the name in Content-Encoding.
func (c Coding) String() string {
	if c >= codings {
		return ""
	}
	return names[c]
}

// Values are the names of all codings.
func (Coding) Values() []string { return names[:] }

// Named returns the coding with a name, in any case.
func Named[T string | []byte](name T) (c Coding, ok bool) {
	for c := range codings {
		if equalFold(name, names[c]) {
			return c, true
		}
	}
	return Gzip, equalFold(name, "x-gzip") // RFC 9110 section 8.4.1.3
}
