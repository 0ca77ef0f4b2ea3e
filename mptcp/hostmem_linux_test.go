package mptcp

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestHostMemoryFromProtocols(t *testing.T) {
	const head = "protocol  size sockets  memory press maxhdr  slab module\n"
	for text, want := range map[string]bool{
		"": false,
		head + "TCPv6 2432 0 9 yes 192 yes kernel\nTCP 2304 2 9 no 192 yes kernel\n": false,
		head + "MPTCP 1936 5 9 no 0 yes kernel\nTCP 2304 2 9 yes 192 yes kernel\n":   true,
		head + "TCP 2304 2\n": false,
	} {
		if got := underPressure([]byte(text)); got != want {
			t.Errorf("%v, want %v, for\n%s", got, want, text)
		}
	}
	b, err := os.ReadFile("/proc/net/protocols")
	if err != nil {
		t.Fatal(err)
	}
	if got := CheckHostMemory(); got != underPressure(b) || got != HostMemoryShort() {
		t.Errorf("this host is short of memory: %v", got)
	}
}

// A host that is short of memory for sockets dials by TCP, unless MPTCP is required.
func TestDialWithoutHostMemory(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Prefer)
	hostMemory.read.Store(time.Now().Add(hostMemoryAge).UnixNano()) // nobody looks again
	hostMemory.short.Store(true)
	defer CheckHostMemory()
	for mode, want := range map[Mode]Result{
		Prefer:  {Transport: Fallback, Reason: HostUnable, Learned: true},
		Require: {Transport: MPTCP},
		Off:     {Transport: TCP},
	} {
		for _, memory := range []*Memory{nil, {}} {
			hostMemory.read.Store(time.Now().UnixNano())
			d := Dialer{Mode: mode, Memory: memory}
			c, r, err := d.Dial(context.Background(), addrOf(l))
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if r != want {
				t.Errorf("%v: %+v, want %+v", mode, r, want)
			}
		}
	}
}
