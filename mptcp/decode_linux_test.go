package mptcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recorded are the kernel's own answers about a connection with two subflows.
type recorded struct {
	full     fullInfo
	head     []byte
	sf, tcp  []byte // of FULL_INFO
	addrs    []byte // SUBFLOW_ADDRS
	tcpinfos []byte // TCPINFO
	info     []byte // MPTCP_INFO
}

func record(t *testing.T) recorded {
	t.Helper()
	client, _, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	var r recorded
	q := queries.New().(*query)
	q.info = new(Info)
	err := rawOf(t, client).Control(func(raw uintptr) {
		fd := int(raw)
		if e := q.readFull(fd); e != 0 {
			t.Error("MPTCP_FULL_INFO:", e)
			return
		}
		r.full = q.full
		head := unsafe.Slice((*byte)(unsafe.Pointer(&q.full)), fullInfoSize)
		r.head = append(r.head, head...)
		r.sf, r.tcp = append(r.sf, q.sf...), append(r.tcp, q.tcp...)
		n, _, _ := q.readArray(fd, optSubflowAddrs, q.sf, sfAddrsSize)
		r.addrs = append(r.addrs, q.sf[:n]...)
		n, _, _ = q.readArray(fd, optTCPInfo, q.tcp, tcpInfoSize)
		r.tcpinfos = append(r.tcpinfos, q.tcp[:n]...)
		b := make([]byte, infoSize)
		n, _ = getsockopt(fd, solMPTCP, optMPTCPInfo, b)
		r.info = b[:n]
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lessOf reports the fields of got that are neither those of whole nor zero:
// what a shorter answer may never show.
func lessOf(got, whole any) []string {
	var wrong []string
	g, w := reflect.ValueOf(got), reflect.ValueOf(whole)
	for i := range g.NumField() {
		name := g.Type().Field(i).Name
		switch name {
		case "Subflows", "Has", "SubflowsTotal": // judged apart
			continue
		}
		if !g.Field(i).IsZero() && !reflect.DeepEqual(g.Field(i).Interface(), w.Field(i).Interface()) {
			wrong = append(wrong, name)
		}
	}
	return wrong
}

func compare(t *testing.T, what string, got, whole *Info) {
	t.Helper()
	if w := lessOf(*got, *whole); w != nil {
		t.Fatalf("%s: garbage in %v", what, w)
	}
	if got.Has&^whole.Has != 0 || len(got.Subflows) > len(whole.Subflows) {
		t.Fatalf("%s: more than there is: %b, %d subflows", what, got.Has, len(got.Subflows))
	}
	for k := range got.Subflows {
		if w := lessOf(got.Subflows[k], whole.Subflows[k]); w != nil {
			t.Fatalf("%s: garbage in %v of subflow %d", what, w, k)
		}
	}
}

// Older kernels return less: the answers of this one are cut to every shorter
// length, and each must decode to the same or to less.
func TestTruncated(t *testing.T) {
	r := record(t)
	var whole Info
	whole.decodeFull(&r.full, r.head, r.sf, r.tcp)
	if len(whole.Subflows) != 2 || whole.Subflows[1].Local.Addr() != netip.MustParseAddr("10.9.0.2") || whole.Subflows[1].RTT == 0 {
		t.Fatalf("whole: %+v", whole)
	}
	for n := range len(r.head) + 1 {
		var i Info
		i.decodeFull(&r.full, r.head[:n], r.sf, r.tcp)
		compare(t, "MPTCP_FULL_INFO", &i, &whole)
		if i.SubflowsTotal != 2 && n < 40+81 {
			t.Fatalf("cut to %d: %d subflows counted", n, i.SubflowsTotal)
		}
	}
	for n := range sfInfoSize {
		f := r.full
		f.sizeSFInfoUser = uint32(n)
		i := Info{}
		i.decodeFull(&f, r.head, restride(r.sf, sfInfoSize, n), r.tcp)
		compare(t, "mptcp_subflow_info", &i, &whole)
	}
	for n := range tcpInfoSize {
		f := r.full
		f.sizeTCPInfoUser = uint32(n)
		i := Info{}
		i.decodeFull(&f, r.head, r.sf, restride(r.tcp, tcpInfoSize, n))
		compare(t, "tcp_info", &i, &whole)
	}
	var info, addrs, tcp Info
	info.decodeInfo(r.info)
	for n := range len(r.info) + 1 {
		i := Info{}
		i.decodeInfo(r.info[:n])
		compare(t, "MPTCP_INFO", &i, &info)
		if got := countOf(r.info[:n]); n > 0 && got != 2 {
			t.Fatalf("MPTCP_INFO cut to %d: %d subflows counted", n, got)
		}
	}
	addrs.decodeArray(r.addrs, (*Subflow).decodeAddrs)
	for n := range len(r.addrs) + 1 {
		i := Info{}
		i.decodeArray(r.addrs[:n], (*Subflow).decodeAddrs)
		compare(t, "MPTCP_SUBFLOW_ADDRS", &i, &addrs)
	}
	tcp.decodeArray(r.tcpinfos, (*Subflow).decodeTCP)
	for n := range len(r.tcpinfos) + 1 {
		i := Info{}
		i.decodeArray(r.tcpinfos[:n], (*Subflow).decodeTCP)
		compare(t, "MPTCP_TCPINFO", &i, &tcp)
	}
	if info.Token != whole.Token || len(addrs.Subflows) != 2 || len(tcp.Subflows) != 2 {
		t.Errorf("the answers are of different connections: %+v %+v %+v", info, addrs, tcp)
	}
}

// restride lays the elements of an array of size-byte structs out at n bytes each,
// as a kernel does that knows only n bytes of them.
func restride(b []byte, size, n int) []byte {
	var out []byte
	for off := 0; off+size <= len(b); off += size {
		out = append(out, b[off:off+n]...)
	}
	return out
}

// The kernel's lengths for real: it is asked for every shorter struct.
func TestKernelTruncates(t *testing.T) {
	client, _, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	err := rawOf(t, client).Control(func(raw uintptr) {
		var whole [infoSize]byte
		n, e := getsockopt(int(raw), solMPTCP, optMPTCPInfo, whole[:])
		if e != 0 || n < infoMinSize {
			t.Errorf("MPTCP_INFO: %d bytes, %v", n, e)
		}
		for want := 1; want < n; want++ {
			var b [infoSize]byte
			got, e := getsockopt(int(raw), solMPTCP, optMPTCPInfo, b[:want])
			if e != 0 || got != want || [infoSize]byte(append(b[:want:want], make([]byte, infoSize-want)...)) != b {
				t.Fatalf("asked for %d bytes: %d, %v", want, got, e)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The offsets of struct tcp_info against those that x/sys/unix has from the
// kernel's header.
func TestTCPInfoOffsets(t *testing.T) {
	var x unix.TCPInfo
	x.State, x.Backoff, x.Rto, x.Snd_mss = 1, 3, 4000, 1448
	x.Unacked, x.Sacked, x.Lost, x.Last_data_sent, x.Last_data_recv, x.Last_ack_recv = 5, 4, 6, 7, 8, 9
	x.Rtt, x.Rttvar, x.Snd_cwnd, x.Total_retrans = 10, 11, 12, 13
	x.Pacing_rate, x.Bytes_acked, x.Bytes_received, x.Notsent_bytes, x.Min_rtt = 14, 15, 16, 17, 18
	x.Delivery_rate, x.Bytes_sent, x.Bytes_retrans = 19, 20, 21
	var s Subflow
	s.decodeTCP(unsafe.Slice((*byte)(unsafe.Pointer(&x)), unsafe.Sizeof(x)))
	ms, us := time.Millisecond, time.Microsecond
	want := Subflow{State: StateEstablished, Backoff: 3, RTO: 4 * ms, SndMSS: 1448, Unacked: 5, Sacked: 4, Lost: 6,
		LastDataSent: 7 * ms, LastDataReceived: 8 * ms, LastAckReceived: 9 * ms, RTT: 10 * us, RTTVar: 11 * us, SndCwnd: 12, Retrans: 13,
		PacingRate: 14, BytesAcked: 15, BytesReceived: 16, NotSent: 17, MinRTT: 18 * us, DeliveryRate: 19, BytesSent: 20, BytesRetrans: 21}
	if s != want {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

func TestDecodeSockaddr(t *testing.T) {
	v4 := make([]byte, 16)
	binary.NativeEndian.PutUint16(v4, unix.AF_INET)
	copy(v4[2:], []byte{0x1f, 0x90, 192, 0, 2, 1})
	v6 := make([]byte, 28)
	binary.NativeEndian.PutUint16(v6, unix.AF_INET6)
	copy(v6[2:], []byte{0x1f, 0x90})
	a := netip.MustParseAddr("2001:db8::5").As16()
	copy(v6[8:], a[:])
	mapped := append([]byte(nil), v6...)
	b := netip.MustParseAddr("::ffff:192.0.2.1").As16()
	copy(mapped[8:], b[:])
	for _, c := range []struct {
		b    []byte
		need int
		want string
	}{{v4, 8, "192.0.2.1:8080"}, {v6, 24, "[2001:db8::5]:8080"}, {mapped, 24, "192.0.2.1:8080"}} {
		for n := range len(c.b) + 1 {
			got, want := decodeSockaddr(c.b[:n]), netip.AddrPort{}
			if n >= c.need {
				want = netip.MustParseAddrPort(c.want)
			}
			if got != want {
				t.Errorf("%s cut to %d: %v", c.want, n, got)
			}
		}
	}
	if got := decodeSockaddr(make([]byte, 128)); got.IsValid() {
		t.Errorf("no family: %v", got)
	}
}

// What later and earlier kernels answer to the questions that judge asks.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		kernel         string
		is             int
		isErr, infoErr syscall.Errno
		knowsInfo      bool
		want           Transport
	}{
		{"6.10, mptcp", 1, 0, 0, true, MPTCP},
		{"6.10, fallback", 0, 0, 0, true, Fallback},
		{"5.16, mptcp", 0, unix.EOPNOTSUPP, 0, true, MPTCP},
		{"5.16, fallback, IPv4", 0, unix.ENOPROTOOPT, unix.EOPNOTSUPP, true, Fallback},
		{"5.16, fallback, IPv6", 0, unix.ENOPROTOOPT, unix.ENOPROTOOPT, true, Fallback},
		{"5.15: cannot tell", 0, unix.EOPNOTSUPP, unix.EOPNOTSUPP, false, Unknown},
		{"another error", 0, unix.EBADF, unix.EBADF, true, Unknown},
	} {
		if got := classifyTransport(c.is, c.isErr, c.infoErr, c.knowsInfo); got != c.want {
			t.Errorf("%s: %q, want %q", c.kernel, got, c.want)
		}
	}
}

// The way without TCP_IS_MPTCP, on real sockets.
func TestJudgeWithoutIsMPTCP(t *testing.T) {
	needMPTCP(t)
	for _, ip := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, m := range []Mode{Prefer, Off} {
			client, _, r := pair(t, &Dialer{}, listen(t, ip, m))
			rawOf(t, client).Control(func(fd uintptr) {
				var b [infoSize]byte
				_, e := getsockopt(int(fd), solMPTCP, optMPTCPInfo, b[:])
				if got := classifyTransport(0, unix.ENOPROTOOPT, e, true); got != r.Transport {
					t.Errorf("%s %s: %q, want %q (%v)", ip, m, got, r.Transport, e)
				}
			})
		}
	}
}

func TestInfoOfTCP(t *testing.T) {
	needMPTCP(t)
	for _, ip := range []string{"127.0.0.1:0", "[::1]:0"} {
		fellBack, plain, _ := pair(t, &Dialer{}, listen(t, ip, Off))
		for _, c := range []*net.TCPConn{fellBack, plain} {
			i := Info{Token: 5, Subflows: make([]Subflow, 3)}
			if err := i.Read(rawOf(t, c)); !errors.Is(err, ErrNotMPTCP) || i.Token != 0 || len(i.Subflows) != 0 {
				t.Errorf("%s: %v %+v", ip, err, i)
			}
			if n, err := SubflowCount(rawOf(t, c)); n != 0 || !errors.Is(err, ErrNotMPTCP) {
				t.Errorf("%s: %d subflows, %v", ip, n, err)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	needMPTCP(t)
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool allocate")
	}
	client, _, _ := pair(t, &Dialer{}, listen(t, "127.0.0.1:0", Prefer))
	tcp, _, _ := pair(t, &Dialer{}, listen(t, "127.0.0.1:0", Off))
	rc, plain := rawOf(t, client), rawOf(t, tcp)
	var i Info
	for name, f := range map[string]func(){
		"TransportOf":              func() { TransportOf(rc) },
		"TransportOf of a TCP one": func() { TransportOf(plain) },
		"LastReceived":             func() { LastReceived(rc) },
		"SubflowCount":             func() { SubflowCount(rc) },
		"SubflowCount of TCP":      func() { SubflowCount(plain) },
		"Info.Read":                func() { i.Read(rc) },
		"Info.Read of TCP":         func() { i.Read(plain) },
	} {
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSocket(b *testing.B) {
	needMPTCP(b)
	client, _, _ := pair(b, &Dialer{}, listenB(b, Prefer))
	tcp, _, _ := pair(b, &Dialer{}, listenB(b, Off))
	rc, plain := rawOf(b, client), rawOf(b, tcp)
	var i Info
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"TransportOf", func() { TransportOf(rc) }},
		{"TransportOf/fallback", func() { TransportOf(plain) }},
		{"SubflowCount", func() { SubflowCount(rc) }},
		{"Info", func() { i.Read(rc) }},
		{"Counters", func() { ReadCounters() }},
		{"Blackhole", func() { readBlackhole() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				c.f()
			}
		})
	}
}

func BenchmarkDial(b *testing.B) {
	needMPTCP(b)
	for _, m := range []Mode{Off, Prefer} {
		b.Run(m.String(), func(b *testing.B) {
			l := listenB(b, m)
			b.ReportAllocs()
			for range b.N {
				c, _, err := (&Dialer{Mode: m}).Dial(b.Context(), addrOf(l))
				if err != nil {
					b.Fatal(err)
				}
				s, err := l.AcceptTCP()
				if err != nil {
					b.Fatal(err)
				}
				c.SetLinger(0)
				c.Close()
				s.Close()
			}
		})
	}
}

func listenB(b *testing.B, m Mode) *net.TCPListener { return listen(b, "127.0.0.1:0", m) }
