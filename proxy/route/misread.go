package route

import (
	"bytes"

	"mpgate/proxy/target"
)

// Reading is how a server may read a path other than mpgate does.
type Reading uint8

const (
	AsRead            Reading = iota // as mpgate does
	Decoded                          // it decodes what may not be decoded, see target.Decoded
	WithoutParameters                // it takes parameters off, see target.WithoutParameters
)

// Fault says what is wrong with a path that leads to another rule by this reading.
func (r Reading) Fault() string {
	return [...]string{
		AsRead:            "",
		Decoded:           "the path matches another route once it is decoded",
		WithoutParameters: "the path matches another route without its parameters",
	}[r]
}

// Misread returns a reading by which a canonical path leads to another rule than Match chooses,
// AsRead if there is none. A client would ask for what one rule allows, and a server might serve
// what another one guards. It is for paths that target.Path has flagged; no other has two readings.
// It uses Scratch of the request.
func (t *Table[T]) Misread(q *Request) Reading {
	path, scratch := q.Path, &q.Scratch
	chosen := t.index.match(q, path, nil)
	elsewhere := func(p []byte) bool { return t.ruleAt(t.index.match(q, p, nil)) != t.ruleAt(chosen) }
	decoded := target.Decoded(path, scratch)
	if elsewhere(decoded) {
		return Decoded
	}
	if bytes.IndexByte(decoded, ';') < 0 {
		return AsRead
	}
	// Tomcat takes parameters off, then decodes; others decode first; and a framework on top may
	// take off what that left.
	without := target.WithoutParameters(path, scratch)
	thenDecoded := target.Decoded(without, scratch)
	if elsewhere(without) || elsewhere(thenDecoded) || elsewhere(target.WithoutParameters(decoded, scratch)) ||
		elsewhere(target.WithoutParameters(thenDecoded, scratch)) {
		return WithoutParameters
	}
	return AsRead
}

// ruleAt is the rule of an entry, -1 for none.
func (t *Table[T]) ruleAt(e int32) int32 {
	if e == none {
		return -1
	}
	return t.patterns[e].rule
}
