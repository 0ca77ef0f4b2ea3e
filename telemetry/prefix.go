package telemetry

import "slices"

// setPrefixes makes what precedes the field's value in a line.
func (f *field) setPrefixes(first bool) {
	json, text := `,"`+f.name+`":`, " "+f.name+"="
	if first {
		json, text = json[1:], text[1:]
	}
	if f.form != formBare {
		json += `"`
	}
	if f.form == formQuoted {
		text += `"`
	}
	f.json, f.text = newPrefix(json), newPrefix(text)
}

// prefix is a short text that is appended faster than a string: a copy of constant length needs no
// call.
type prefix struct {
	bytes [32]byte
	n     int    // how much of bytes
	rest  string // of a longer one
}

func newPrefix(s string) (p prefix) {
	p.n = copy(p.bytes[:], s)
	p.rest = s[p.n:]
	return p
}

func (p *prefix) appendTo(b []byte) []byte {
	n := len(b)
	b = slices.Grow(b, len(p.bytes))
	*(*[len(p.bytes)]byte)(b[n : n+len(p.bytes)]) = p.bytes
	if p.rest != "" {
		return append(b[:n+p.n], p.rest...)
	}
	return b[:n+p.n]
}
