package mptcp

import (
	"os"
	"strings"
	"testing"
)

func TestMode(t *testing.T) {
	for m, want := range map[Mode]string{Prefer: "prefer", Require: "require", Off: "off", 9: "Mode(9)"} {
		if got := m.String(); got != want {
			t.Errorf("%d prints as %q, want %q", m, got, want)
		}
	}
}

// The words of logs and metrics.
func TestWords(t *testing.T) {
	var got []string
	for v := Unknown; v <= Unix; v++ {
		got = append(got, v.String())
	}
	for v := None; v <= Later; v++ {
		got = append(got, v.String())
	}
	const want = "|tcp|mptcp|fallback|unix||not_offered|peer_or_path|blackhole|host|later"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got %s", s)
	}
	if s := (FlagSignal | FlagBackup | 1<<9).String(); s != "signal,backup,0x200" {
		t.Errorf("flags %q", s)
	}
}

func TestDisabled(t *testing.T) {
	for v, want := range map[string]bool{
		"":                                   false,
		"multipathtcp=0":                     true,
		"multipathtcp=1":                     false,
		"http2client=0,multipathtcp=0":       true,
		"multipathtcp=0,http2client=0":       true,
		"multipathtcp=0,multipathtcp=1":      false,
		"multipathtcp=2,x=y,multipathtcp=0,": true,
		"xmultipathtcp=0":                    false,
		"multipathtcp":                       false,
	} {
		t.Setenv("GODEBUG", v)
		if Disabled() != want {
			t.Errorf("GODEBUG=%s: %v", v, !want)
		}
	}
	os.Unsetenv("GODEBUG")
	if Disabled() {
		t.Error("disabled without GODEBUG")
	}
}

func TestParseCounters(t *testing.T) {
	const text = "TcpExt: SyncookiesSent Other\nTcpExt: 1 2\nIpExt: A\nIpExt: 3\n" +
		"MPTcpExt: MPCapableSYNRX MPCapableSYNTXDisabled Blackhole\nMPTcpExt: 7 8 18446744073709551615\n"
	c, err := parseCounters([]byte(text))
	if err != nil || len(c) != 3 || c["MPCapableSYNRX"] != 7 || c["MPCapableSYNTXDisabled"] != 8 || c["Blackhole"] != 1<<64-1 {
		t.Errorf("%v %v", c, err)
	}
	if n := sumOf([]byte(text), "MPCapableSYNRX", "MPCapableSYNTXDisabled", "Unheard"); n != 15 {
		t.Errorf("sum %d", n)
	}
	for text, want := range map[string]string{
		"TcpExt: A\nTcpExt: 1\n":          "netstat: no MPTcpExt lines: this kernel has no MPTCP",
		"MPTcpExt: A\n":                   "netstat: no MPTcpExt lines: this kernel has no MPTCP",
		"MPTcpExt: A B\nMPTcpExt: 1 -2\n": `netstat: MPTcpExtB is not a number (got "-2")`,
	} {
		if _, err := parseCounters([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
		sumOf([]byte(text), "A") // must not panic
	}
}
