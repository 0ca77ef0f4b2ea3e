package mptcp

import (
	"errors"
	"os"
	"testing"
	"time"
)

// A connection whose reader is slow has a full receive buffer, too, and is left as it is.
func TestReceiveStallLeavesSlowReadersAlone(t *testing.T) {
	needMPTCP(t)
	client, server, _ := pair(t, &Dialer{}, listen(t, "127.0.0.1:0", Require))
	rc := rawOf(t, server)
	buffer := func() (held, room uint32) {
		var q query
		q.ask = func(fd uintptr) { held, room = q.receiveBuffer(int(fd)) }
		if err := q.run(rc, nil); err != nil {
			t.Fatal(err)
		}
		return held, room
	}
	// By single bytes, each with the kernel's own: what is sent in one piece is held back before.
	one := make([]byte, 1)
	until(t, "the buffer is full", func() bool {
		_ = client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for range 10_000 {
			if _, err := client.Write(one); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		held, room := buffer()
		return held >= room
	})
	_, before := buffer()
	for range 3 {
		if did, err := FixReceiveStall(rc); did || err != nil {
			t.Fatalf("something was done: %v, %v", did, err)
		}
	}
	if _, now := buffer(); now != before {
		t.Errorf("the receive buffer was of %d bytes, it is of %d", before, now)
	}
}

// BenchmarkFixReceiveStall is what a look at a connection costs that is as it should be.
func BenchmarkFixReceiveStall(b *testing.B) {
	needMPTCP(b)
	client, _, _ := pair(b, &Dialer{}, listen(b, "127.0.0.1:0", Require))
	rc := rawOf(b, client)
	b.ReportAllocs()
	for b.Loop() {
		if did, err := FixReceiveStall(rc); did || err != nil {
			b.Fatal(did, err)
		}
	}
}
