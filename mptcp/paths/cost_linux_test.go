package paths

import (
	"context"
	"maps"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// manyConnections makes n MPTCP connections in this namespace and gives a source of
// one end of each, of which every tenth has data outstanding.
func manyConnections(b *testing.B, n int) Source {
	b.Helper()
	if s := mptcp.Host(); !s.Usable {
		b.Skip(s.Why)
	}
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	limit.Max = max(limit.Max, uint64(2*n+150)) // root may
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if limit.Max < uint64(2*n+150) {
		b.Skipf("%d descriptors are allowed, %d needed", limit.Max, 2*n+150)
	}
	l, _, err := mptcp.Listen(context.Background(), "127.0.0.1:0", mptcp.ListenOptions{Mode: mptcp.Require})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	conns := map[int]Conn{}
	for i := range n {
		c, _, err := (&mptcp.Dialer{}).Dial(context.Background(), l.Addr().(*net.TCPAddr).AddrPort())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.AcceptTCP()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close(); s.Close() })
		rc, err := c.SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		if i%10 == 0 {
			_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
			_, _ = c.Write(make([]byte, 1<<20)) // nobody reads
		}
		conns[i] = Conn{Raw: rc, Side: Back}
	}
	// As a map's range begins anywhere, so does this.
	return maps.Values(conns)
}

// BenchmarkWatch gives the share of a core that watching takes, with 10,000
// connections: 50 samples a second and a pass of the books each 5 s.
func BenchmarkWatch(b *testing.B) {
	const n = 9_900 // 10,000, less what a limit of 20,000 descriptors leaves
	m, err := Open(Options{Source: manyConnections(b, n)})
	if err != nil {
		b.Skip(err)
	}
	defer m.Close()
	m.o.Failover = FailoverActive
	h, err := m.rt.host()
	if err != nil {
		b.Fatal(err)
	}
	m.merge(resolve([]Path{{Name: "lo", Interface: "lo"}, {Name: "other", Interface: "none"}}, h, false), time.Now())
	used := func(f func()) time.Duration {
		var before, after unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
		f()
		_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
		return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	}
	m.accountAll()
	b.ResetTimer()
	var sample, pass time.Duration
	for b.Loop() {
		sample += used(func() {
			for range 50 {
				m.watch(time.Now())
			}
		})
		pass += used(m.accountAll)
	}
	perSecond := float64(sample+pass/time.Duration(passEvery/time.Second)) / float64(b.N)
	b.ReportMetric(float64(sample)/float64(b.N)/50/1e3, "us/sample")
	b.ReportMetric(float64(pass)/float64(b.N)/1e6, "ms/pass")
	b.ReportMetric(100*perSecond/1e9, "%core")
}
