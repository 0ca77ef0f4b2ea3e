package mptcp

import (
	"runtime"
	"testing"
	"time"
)

// LastReceived sees the end of the peer's stream by the state of TCP, and with MPTCP by a segment
// more.
func TestLastReceived(t *testing.T) {
	needMPTCP(t)
	for _, c := range []struct {
		name         string
		dial, listen Mode
	}{{"tcp", Off, Off}, {"fallback", Prefer, Off}, {"mptcp", Prefer, Prefer}} {
		client, server, _ := pair(t, &Dialer{Mode: c.dial}, listen(t, "127.0.0.1:0", c.listen))
		exchange(t, client, server)
		exchange(t, server, client)
		rc := rawOf(t, client)
		before, err := LastReceived(rc)
		if err != nil || before.State != StateEstablished || before.Segments == 0 || before.Ago > time.Minute {
			t.Fatalf("%s: %+v, %v", c.name, before, err)
		}
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		seen := func(r Received) bool {
			if c.name == "mptcp" {
				return r.Segments > before.Segments
			}
			return r.State == StateCloseWait
		}
		after := before
		for until := time.Now().Add(10 * time.Second); !seen(after); runtime.Gosched() {
			if after, err = LastReceived(rc); err != nil || time.Now().After(until) {
				t.Fatalf("%s: %+v after the end, %+v before; %v", c.name, after, before, err)
			}
		}
		client.Close()
		if _, err := LastReceived(rc); err == nil {
			t.Errorf("%s: no error for a socket that is closed", c.name)
		}
	}
}
