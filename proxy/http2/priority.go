package http2

import "strings"

// priority is what a client said of a response's (RFC 9218 section 4). A client that says nothing
// gets its streams in turn: most of those do not know of the scheme, and one response after the
// other is not what they expect.
type priority struct {
	urgency     uint8 // 0 is first, 7 last
	incremental bool
}

const urgencies = 8

var defaultPriority = priority{urgency: 3, incremental: true}

// parsePriority reads the members u and i of a dictionary (RFC 8941). What it cannot read it skips,
// as it must parameters it does not know; a field that is no dictionary at all thus counts for
// nothing.
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
