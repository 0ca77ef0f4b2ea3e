package http2

import "strings"

// priority is the priority of a response (RFC 9218 section 4). Without one, the streams share the
// connection: most such clients do not know the scheme and do not expect one response after the
// other.
type priority struct {
	urgency     uint8 // 0 is first, 7 last
	incremental bool
}

const urgencies = 8

var defaultPriority = priority{urgency: 3, incremental: true}

// parsePriority reads the members u and i of a dictionary (RFC 8941). It skips what it
// cannot parse, as it must skip unknown parameters; a field that is not a dictionary thus has no
// effect.
func parsePriority(b string) priority {
	p := priority{urgency: 3}
	for len(b) > 0 {
		var member string
		member, b, _ = strings.Cut(b, ",")
		member, _, _ = strings.Cut(strings.Trim(member, " \t"), ";") // without its parameters
		switch {
		case len(member) == 3 && member[:2] == "u=" && member[2] >= '0' && member[2] <= '7':
			p.urgency = member[2] - '0'
		case member == "i", member == "i=?1":
			p.incremental = true
		case member == "i=?0":
			p.incremental = false
		}
	}
	return p
}
