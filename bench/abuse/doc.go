// Package abuse is the attacker of `bench abuse`: clients that make an HTTP proxy do work or hold
// memory without a useful request. It attacks only addresses of the loopback device, for a bounded
// time, with a bounded number of connections.
//
//	doc.go    the attacks
//	run.go    connections, one after the other in each slot, until the time or the budget is used up
//	h2.go     frames
//	h1.go     requests that do not end, handshakes that do not begin
package abuse

import (
	"fmt"
	"strings"
	"time"
)

// Attack is one kind of attack.
type Attack struct {
	Name, About string
	// Flood: it sends as fast as it can. Otherwise it holds what it has, and sends little.
	Flood bool
	// Connections at once, and Most in all: one that was ended is made again until then.
	Connections, Most int

	protocol string // by ALPN; "": no handshake
	run      func(*conn) error
}

// Attacks returns all attacks, in the order in which they run.
func Attacks() []Attack {
	h2 := func(name, about string, run func(*conn) error) Attack {
		return Attack{Name: name, About: about, Flood: true, Connections: 8, Most: 400, protocol: "h2", run: run}
	}
	h1 := func(name, about string, run func(*conn) error) Attack {
		return Attack{Name: name, About: about, Flood: true, Connections: 8, Most: 400, protocol: "http/1.1", run: run}
	}
	hold := func(a Attack, connections int) Attack {
		a.Flood, a.Connections, a.Most = false, connections, 2*connections
		return a
	}
	return []Attack{
		h2("rapid-reset", "requests that are cancelled at once", flood(rapidReset)),
		h2("made-you-reset", "requests, each with a WINDOW_UPDATE of 0 that makes the server cancel it", flood(madeYouReset)),
		h2("continuation", "a header block of empty CONTINUATION frames that does not end", flood(continuation)),
		h2("header-list", "a header list of short fields that does not end", flood(headerList)),
		h2("hpack-bomb", "requests of 16 KiB that unpack to 48 MiB of fields", flood(hpackBomb)),
		h2("settings", "SETTINGS, of which each must be acknowledged", flood(settings)),
		h2("ping", "PINGs whose answers are not read", floodUnread(ping)),
		h2("empty-data", "a body of DATA frames with nothing in them", flood(emptyData)),
		h2("window-update", "WINDOW_UPDATEs of 1", flood(windowUpdate)),
		hold(h2("zero-window", "100 answers of 1 MiB on each connection, and no window for any", zeroWindow), 5),
		h1("endless-head", "a request's head of short fields that does not end", endlessHead),
		h1("chunk-extension", "a chunk whose extension does not end", chunkExtension),
		h1("tiny-chunks", "a body of chunks of one byte, each with an extension of 64", tinyChunks),
		hold(h1("slow-head", "heads that come by a field every half second", slowHead), 500),
		hold(h1("slow-body", "bodies that come by a byte every half second", slowBody), 500),
		hold(Attack{Name: "half-handshake", About: "connections that send three bytes of a ClientHello", run: halfHandshake}, 1000),
	}
}

// Find returns the attacks with these names; without names, all of them.
func Find(names []string) ([]Attack, error) {
	all := Attacks()
	if len(names) == 0 {
		return all, nil
	}
	var list []Attack
	for _, name := range names {
		found := false
		var known []string
		for _, a := range all {
			known = append(known, a.Name)
			if a.Name == name {
				list, found = append(list, a), true
			}
		}
		if !found {
			return nil, fmt.Errorf("attack (got %q); want %s", name, strings.Join(known, ", "))
		}
	}
	return list, nil
}

// Job is an attack on one address.
type Job struct {
	Attack   string        `json:"attack"`
	Address  string        `json:"address"` // of the loopback
	Duration time.Duration `json:"duration"`
}

// Outcome is what the attacker did and what it observed.
type Outcome struct {
	Wall time.Duration `json:"wall_ns"`
	// CPU is that of the attacker, from its first connection to its last.
	CPU     time.Duration `json:"cpu_ns"`
	Opened  int64         `json:"opened"`  // connections
	Refused int64         `json:"refused"` // that could not be made, or whose handshake failed
	Sent    int64         `json:"sent"`    // frames, fields or chunks
	Bytes   int64         `json:"bytes"`
	Resets  int64         `json:"resets"`  // streams that the proxy cancelled
	Answers int64         `json:"answers"` // that the proxy began
	// Ends counts connections by how they ended: GOAWAY and its code, a status, closed, reset, or
	// "held" until the attack ended.
	Ends map[string]int64 `json:"ends"`
}
