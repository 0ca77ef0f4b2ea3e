package result

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Abuse is one attack, against every proxy.
type Abuse struct {
	Attack string `json:"attack"`
	About  string `json:"about"`
	// Flood: the attack sends as fast as it can; otherwise it holds connections.
	Flood       bool `json:"flood"`
	Connections int  `json:"attack_connections"` // at once
	Most        int  `json:"attack_connections_most"`
	// Length of the time without the attack, and of the time with it.
	Length  time.Duration `json:"length_ns"`
	Entries []AbuseEntry  `json:"entries"`
}

// AbuseEntry is what an attack did to one proxy, and to those who were there.
type AbuseEntry struct {
	Proxy   string            `json:"proxy"`
	Failed  string            `json:"failed,omitempty"` // it could not be measured, and why
	Command []string          `json:"command,omitempty"`
	Env     []string          `json:"env,omitempty"`
	Files   map[string]string `json:"files,omitempty"`

	Calm  Bystanders `json:"without"`
	Under Bystanders `json:"with"`
	// CPU of the proxy in each of the two, and of the attacker.
	CPUCalm     time.Duration `json:"cpu_without_ns"`
	CPUUnder    time.Duration `json:"cpu_with_ns"`
	CPUAttacker time.Duration `json:"cpu_attacker_ns"`
	// Memory (PSS): before the attack, the most that was seen during it, and after it.
	Before  int64   `json:"pss_before"`
	Peak    int64   `json:"pss_peak"`
	After   int64   `json:"pss_after"`
	Foreign float64 `json:"foreign_cpu_share"`

	Opened  int64            `json:"opened"`
	Refused int64            `json:"refused"`
	Sent    int64            `json:"sent"`
	Bytes   int64            `json:"bytes"`
	Resets  int64            `json:"resets"`
	Answers int64            `json:"answers"`
	Ends    map[string]int64 `json:"ends"`
}

// Bystanders are the clients that do nothing wrong, by kind.
type Bystanders struct {
	H1  Bystander `json:"h1"`  // HTTP/1.1 over TLS, kept connections
	H2  Bystander `json:"h2"`  // HTTP/2 over TLS, kept connections
	New Bystander `json:"new"` // HTTP/1.1 over TLS, a connection for each request
}

// Bystander is one kind.
type Bystander struct {
	Requests int64   `json:"requests"` // answered
	Errors   Errors  `json:"errors"`
	Missed   int64   `json:"missed"` // due, and never sent
	Latency  Latency `json:"latency"`
}

// Lost is how many requests were not answered.
func (b Bystanders) Lost() (n int64) {
	for _, k := range []Bystander{b.H1, b.H2, b.New} {
		n += k.Errors.Total() + k.Missed
	}
	return n
}

// CPU that the attack cost the proxy: what it used with it beyond what it used without it.
func (e *AbuseEntry) CPU() time.Duration { return max(0, e.CPUUnder-e.CPUCalm) }

// CPURatio is the proxy's CPU time for the attack, by the attacker's.
func (e *AbuseEntry) CPURatio() float64 {
	if e.CPUAttacker <= 0 {
		return 0
	}
	return float64(e.CPU()) / float64(e.CPUAttacker)
}

// Slower is how many times the p99 of kept connections is what it was, the worse of the two kinds.
func (e *AbuseEntry) Slower() float64 {
	ratio := func(calm, under Bystander) float64 {
		if calm.Latency.P99 == 0 {
			return 0
		}
		return float64(under.Latency.P99) / float64(calm.Latency.P99)
	}
	return max(ratio(e.Calm.H1, e.Under.H1), ratio(e.Calm.H2, e.Under.H2))
}

// The bars that a proxy is to hold under attack.
const (
	MostSlower = 2.0 // times the p99 of those who do nothing wrong
	MostCPU    = 1.5 // times the attacker's, in a flood
)

// Misses says which of the bars e does not hold.
func (e *AbuseEntry) Misses(flood bool) (list []string) {
	if n := e.Under.Lost(); n > 0 {
		list = append(list, fmt.Sprintf("%d lost", n))
	}
	if e.Slower() > MostSlower {
		list = append(list, "p99")
	}
	if flood && e.CPURatio() > MostCPU {
		list = append(list, "CPU")
	}
	return list
}

// How the attack's connections ended, the most frequent way first.
func (e *AbuseEntry) How() string {
	names := slices.SortedFunc(maps.Keys(e.Ends), func(a, b string) int {
		if e.Ends[a] != e.Ends[b] {
			return int(e.Ends[b] - e.Ends[a])
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %d", name, e.Ends[name]))
	}
	if e.Refused > 0 {
		parts = append(parts, fmt.Sprintf("refused %d", e.Refused))
	}
	return strings.Join(parts, ", ")
}

// Entry finds a proxy's entry, nil if it is not in this attack.
func (a *Abuse) Entry(proxy string) *AbuseEntry {
	for i := range a.Entries {
		if a.Entries[i].Proxy == proxy {
			return &a.Entries[i]
		}
	}
	return nil
}
