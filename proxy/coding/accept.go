package coding

import (
	"bytes"

	"mpgate/proxy/message"
)

// Accepted is what a client accepts.
type Accepted struct {
	weights [codings]int16 // in thousandths; unlisted if the client does not name the coding
	others  int16          // of "*"
}

const unlisted = -1

// Accept returns what the Accept-Encoding fields of a request accept. A request without them gets
// no coding: many clients that send none cannot decode any. An element with an invalid weight is
// not acceptable.
func Accept(h *message.Header) Accepted {
	a := Accepted{others: unlisted}
	for c := range a.weights {
		a.weights[c] = unlisted
	}
	for i := h.Index(message.AcceptEncoding, 0); i >= 0; i = h.Index(message.AcceptEncoding, i+1) {
		_, _, value, _ := h.At(i)
		a.parse(value)
	}
	return a
}

func (a *Accepted) parse(value []byte) {
	for len(value) > 0 {
		var element []byte
		element, value, _ = bytes.Cut(value, comma)
		name, parameters, _ := bytes.Cut(element, semicolon)
		name = trim(name)
		w := weight(parameters)
		if len(name) == 1 && name[0] == '*' {
			a.others = lower(a.others, w)
		} else if c, ok := Named(name); ok {
			a.weights[c] = lower(a.weights[c], w)
		}
	}
}

var comma, semicolon = []byte(","), []byte(";")

// lower is the weight of a coding that is listed again: the most cautious reading.
func lower(before, w int16) int16 {
	if before == unlisted {
		return w
	}
	return min(before, w)
}

// weight reads what follows the name of an element: nothing, or a qvalue (RFC 9110 section 12.4.2).
func weight(parameters []byte) int16 {
	p := trim(parameters)
	if len(p) == 0 {
		return 1000
	}
	if len(p) < 3 || p[0]|0x20 != 'q' || p[1] != '=' || len(p) > len("q=0.000") {
		return 0
	}
	p = p[2:]
	if p[0] != '0' && p[0] != '1' || len(p) > 1 && p[1] != '.' {
		return 0
	}
	w, digit := int16(p[0]-'0')*1000, int16(100)
	for _, c := range p[min(2, len(p)):] {
		if c < '0' || c > '9' {
			return 0
		}
		w += int16(c-'0') * digit
		digit /= 10
	}
	if w > 1000 {
		return 0
	}
	return w
}

// Best returns the coding of offered that the client prefers; among equals the first. Identity
// means that none is acceptable, or that the client prefers no coding. If a client accepts nothing
// at all, not even identity, it gets identity (RFC 9110 section 12.5.3).
func (a *Accepted) Best(offered []Coding) Coding {
	best, most := Identity, int16(0)
	for _, c := range offered {
		if w := a.of(c); w > most {
			best, most = c, w
		}
	}
	if a.weights[Identity] > most {
		return Identity
	}
	return best
}

// Accepts reports whether the client accepts a coding.
func (a *Accepted) Accepts(c Coding) bool { return a.of(c) > 0 }

func (a *Accepted) of(c Coding) int16 {
	if a.weights[c] != unlisted {
		return a.weights[c]
	}
	return a.others
}

// trim removes optional whitespace (RFC 9110 section 5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func equalFold[T string | []byte](b T, name string) bool {
	return message.EqualFold([]byte(b), name)
}
