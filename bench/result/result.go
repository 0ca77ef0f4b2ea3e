// Package result is the result of a run of the benchmarks, as `--json` writes it: every round, with
// the machine and the commands that made it. The tables and the page are made from it alone.
package result

import (
	"time"
)

// Report is one run.
type Report struct {
	Verb     string     `json:"verb"` // cpu | load | selftest | growth | paths | abuse
	Started  time.Time  `json:"started"`
	Seconds  float64    `json:"seconds"`
	Argv     []string   `json:"argv"`
	Machine  Machine    `json:"machine"`
	Method   []string   `json:"method"`
	Baseline string     `json:"baseline"` // the proxy whose cost is divided by the others'
	Proxies  []Proxy    `json:"proxies"`
	Skipped  []Skip     `json:"skipped,omitempty"`
	Cases    []Case     `json:"cases,omitempty"`
	Idle     []Idle     `json:"idle,omitempty"`
	Startup  []Startup  `json:"startup,omitempty"`
	Paths    []PathCase `json:"paths,omitempty"`
	Growth   []Growth   `json:"growth,omitempty"`
	Abuse    []Abuse    `json:"abuse,omitempty"`
}

// Machine is where the run took place.
type Machine struct {
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Memory  int64  `json:"memory_bytes"`
	Kernel  string `json:"kernel"`
	OS      string `json:"os"`
	Virtual string `json:"virtual,omitempty"` // as the CPU says: "hypervisor"
	Go      string `json:"go"`
	// Load before the run shows whether the machine was already busy.
	Load    string            `json:"loadavg"`
	Netns   bool              `json:"own_network_namespace"`
	Sysctls map[string]string `json:"sysctls"`
	Tools   map[string]string `json:"tools"` // wrk, h2load, mptcpize, ss: version or path
}

// Proxy is one of the programs compared.
type Proxy struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Program string `json:"program"`
}

// Skip is a proxy that was not measured, and why.
type Skip struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Transport says on which sides of the proxy MPTCP is spoken.
type Transport string

// The three columns of every comparison.
const (
	TCP        Transport = "tcp"
	MPTCPFront Transport = "mptcp front"
	MPTCPBoth  Transport = "mptcp both"
)

// Front and Back say whether the clients' side and the backend's side are MPTCP.
func (t Transport) Front() bool { return t == MPTCPFront || t == MPTCPBoth }

// Back is Front for the side of the backend.
func (t Transport) Back() bool { return t == MPTCPBoth }

// Case is one workload, run against every proxy.
type Case struct {
	Protocol    string        `json:"protocol"` // h1 | h1 tls | h2 tls
	Body        int64         `json:"body_bytes"`
	Transport   Transport     `json:"transport"`
	Log         bool          `json:"access_log"`
	Close       bool          `json:"connection_per_request"`
	Connections int           `json:"connections"`
	Streams     int           `json:"streams,omitempty"` // of each connection at once (h2)
	Workers     int           `json:"workers"`
	Duration    time.Duration `json:"round_ns"`
	Load        string        `json:"load"` // wrk | builtin | h2load
	Rate        float64       `json:"rate,omitempty"`
	// Title says what the entries differ in, where they are not simply proxies.
	Title string `json:"title,omitempty"`
	// Baseline is the entry that the others' cost is divided by; "": Report.Baseline, whose cost is
	// divided by theirs.
	Baseline string   `json:"baseline,omitempty"`
	Path     string   `json:"path,omitempty"`   // of the requests; "": /bytes/N
	Paths    int      `json:"paths,omitempty"`  // each path begins with one of /r0 … at random
	Fields   []string `json:"fields,omitempty"` // further ones of each request, "Name: value"
	Entries  []Entry  `json:"entries"`
}

// Entry is one proxy in one case.
type Entry struct {
	Proxy   string            `json:"proxy"`
	Failed  string            `json:"failed,omitempty"` // it could not be measured at all, and why
	Command []string          `json:"command,omitempty"`
	Env     []string          `json:"env,omitempty"`
	Files   map[string]string `json:"files,omitempty"`
	Notes   []string          `json:"notes,omitempty"`
	// Sent is how long the body of an answer is where it has a content coding.
	Sent   int64   `json:"sent_body_bytes,omitempty"`
	Rounds []Round `json:"rounds"`
}

// Round is one measurement of one proxy.
type Round struct {
	N        int           `json:"round"`
	Position int           `json:"position"` // its place in the round: 0 is first
	Command  []string      `json:"command"`
	Requests int64         `json:"requests"`
	Bytes    int64         `json:"bytes"`
	Wall     time.Duration `json:"wall_ns"`
	// CPU of the proxy's process tree, ended threads included.
	CPU       time.Duration `json:"cpu_ns"`
	User      time.Duration `json:"user_ns"`
	System    time.Duration `json:"system_ns"`
	RSS       int64         `json:"rss_bytes"`
	PSS       int64         `json:"pss_bytes"`
	Processes int           `json:"processes"`
	// Foreign is the share of all CPUs that neither proxy nor load nor backend used.
	Foreign float64 `json:"foreign_cpu_share"`
	Steal   float64 `json:"steal_share"`
	Errors  Errors  `json:"errors"`
	Latency Latency `json:"latency"`
	MPTCP   *MPTCP  `json:"mptcp,omitempty"`
	Invalid string  `json:"invalid,omitempty"` // why this round is shown but not averaged
}

// Errors are what the load generator met, by kind.
type Errors struct {
	Connect int64 `json:"connect"`
	Read    int64 `json:"read"`
	Write   int64 `json:"write"`
	Status  int64 `json:"status"` // answers that were not 2xx
	Timeout int64 `json:"timeout"`
	Length  int64 `json:"length"` // bodies of the wrong length (builtin only)
}

// Total adds them up.
func (e Errors) Total() int64 { return e.Connect + e.Read + e.Write + e.Status + e.Timeout + e.Length }

// Latency is in microseconds. At saturation it says how long a queue 64 connections make, not how
// fast a proxy is.
type Latency struct {
	P50  int64 `json:"p50_us"`
	P90  int64 `json:"p90_us"`
	P99  int64 `json:"p99_us"`
	P999 int64 `json:"p999_us"`
	Max  int64 `json:"max_us"`
	// Curve holds percentile and microseconds, for the plot; only at a fixed rate.
	Curve [][2]float64 `json:"curve,omitempty"`
}

// MPTCP is what the kernel and the backend say about the transport really spoken in a round.
type MPTCP struct {
	// FrontAccepted counts MPTCP handshakes completed on the proxy's listener.
	FrontAccepted int64 `json:"front_accepted"`
	BackAccepted  int64 `json:"back_accepted"` // those on the backend's
	// BackTCP counts connections that the backend accepted as plain TCP.
	BackTCP int64 `json:"back_tcp"`
	// Established connections by ss -M on the proxy's port, in the middle of the round; -1: ss is
	// missing.
	Established int              `json:"established_seen"`
	Counters    map[string]int64 `json:"counters"` // MPTcpExt*, what changed
}

// Idle is the memory of idle keep-alive connections.
type Idle struct {
	Proxy       string        `json:"proxy"`
	Connections int           `json:"connections"`
	Rest        time.Duration `json:"rest_ns"` // that they had been idle for
	PSSBefore   int64         `json:"pss_before"`
	PSSAfter    int64         `json:"pss_after"`
	RSSBefore   int64         `json:"rss_before"`
	RSSAfter    int64         `json:"rss_after"`
	PerConn     float64       `json:"pss_per_connection"`
	Open        int           `json:"still_open"` // of them, when memory was read
	Failed      string        `json:"failed,omitempty"`
}

// Startup is the time from exec to the first answered request.
type Startup struct {
	Proxy  string          `json:"proxy"`
	Times  []time.Duration `json:"times_ns"`
	Failed string          `json:"failed,omitempty"`
}
