package paths

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// The buffer follows what is needed: down after ten looks, up at once, and not at all
// where one path carries everything or little is queued.
func TestBufferFits(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b buffer
	acked := uint64(7e9)
	run := func(looks int, bytesPerSecond float64, rtt time.Duration, queued int, several bool) (set []int) {
		for range looks {
			now = now.Add(busyTick)
			acked += uint64(bytesPerSecond * busyTick.Seconds())
			b.measure(acked, rtt, now)
			if n := b.fit(b.need(rtt), queued, several); n > 0 {
				b.set = n
				set = append(set, n)
			}
		}
		return set
	}
	if s := run(50, 20e6, 4*ms, 2_000_000, false); len(s) != 0 {
		t.Errorf("one path: set to %v", s)
	}
	if s := run(50, 20e6, 4*ms, 400_000, true); len(s) != 0 {
		t.Errorf("not twice what is needed is queued: set to %v", s)
	}
	// 20 MB/s in 1.25 * 4 ms + 5 ms
	if s := run(maxOversized-1, 20e6, 4*ms, 2_000_000, true); len(s) != 0 {
		t.Errorf("after %d looks: set to %v", maxOversized-1, s)
	}
	if s := run(1, 20e6, 4*ms, 2_000_000, true); len(s) != 1 || s[0] < 195_000 || s[0] > 205_000 {
		t.Errorf("set to %v, want 200 KB", s)
	}
	if s := run(1, 20e6, 12*ms, 200_000, true); len(s) != 1 || s[0] < 390_000 || s[0] > 410_000 {
		t.Errorf("with a longer round trip: set to %v, want 400 KB", s)
	}
	// The rate falls: the buffer follows once the best of the last three rates is gone.
	if s := run(60, 1e6, 12*ms, 400_000, true); len(s) == 0 || s[len(s)-1] != minBuffer {
		t.Errorf("set to %v, want %d at last", s, minBuffer)
	}
}

// A connection that sends over several paths has a short buffer also where only links are watched:
// what a dead path has lost would else wait behind all that is queued.
func TestBufferShortenedWithLinks(t *testing.T) {
	r := start(t, "client", lab.Path{Rate: 50 * lab.Mbit}, Options{
		Manage: ManageSync, Failover: FailoverLink, Limits: &mptcp.Limits{Subflows: 2, AddrAccepted: 2}, Paths: twoPaths,
	})
	r.inSync(2)
	c, s := r.connect(&mptcp.Dialer{})
	until(t, "two subflows", func() bool { return locals(t, c) == "10.77.1.1 10.77.2.1" })
	r.add(c, Back)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, s)
	}()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for b := make([]byte, 1<<20); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	largest := 0
	until(t, "the send buffer shrinks, which the kernel never does", func() bool {
		n := sendBuffer(t, c)
		largest = max(largest, n)
		return n < largest*3/4
	})
	c.Close()
	<-written
	s.Close()
	<-done
}

// The path of an endpoint that is ours is given up sooner than one on which ended subflows do not
// come back.
func TestSilenceForGood(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Failover: FailoverActive, Paths: twoPaths[:1]})
	r.inSync(1)
	least := func() (d map[string]time.Duration) {
		d = map[string]time.Duration{}
		done := make(chan struct{})
		r.m.calls <- func() {
			defer close(done)
			for _, p := range r.m.paths {
				d[p.Name] = p.silence.minimum
			}
		}
		<-done
		return d
	}
	until(t, "the declared path is known to be renewable", func() bool { d := least(); return len(d) == 1 && d["one"] == 0 })
	if err := r.m.Update(r.options(Options{Manage: ManageWatch, Failover: FailoverActive})); err != nil {
		t.Fatal(err)
	}
	until(t, "no path is", func() bool {
		d := least()
		return len(d) == 2 && d["link1"] == minPermanent && d["link2"] == minPermanent
	})
}

// A connection that is followed no more has all the room again.
func TestBufferReleased(t *testing.T) {
	r := start(t, "client", lab.Path{}, Options{Failover: FailoverActive, Paths: twoPaths})
	c, s := r.connect(&mptcp.Dialer{})
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{sample: sample{followed: []followed{{Conn: Conn{Raw: rc}}}, maxBuffer: maxSendBuffer()}}
	f := &m.sample.followed[0]
	f.setBuffer(300_000)
	if n := sendBuffer(t, c); n != 300_000 {
		t.Errorf("the send buffer is %d, 300000 were set", n)
	}
	r.exchange(c, s)
	m.unfollow()
	if n := sendBuffer(t, c); n != maxSendBuffer() {
		t.Errorf("the send buffer is %d, want %d", n, maxSendBuffer())
	}
}

func sendBuffer(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
