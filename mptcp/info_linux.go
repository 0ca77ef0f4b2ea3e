package mptcp

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A query is one request to the kernel about a socket. RawConn takes a func, which would be
// allocated with each call, so queries are pooled, each with its func.
type query struct {
	ask func(fd uintptr)
	do  func(q *query, fd int)

	transport Transport
	info      *Info
	count     int
	sendState SendState
	received  Received
	err       error

	full            fullInfo
	meminfo         [memInfoSize]byte
	sf, tcp, before []byte // room for the arrays of the subflows
	room            int
}

// Most connections have fewer subflows; one with more costs its first reader a
// second call.
const usualSubflows = 9

var queries = sync.Pool{New: func() any {
	q := new(query)
	q.ask = func(fd uintptr) { q.do(q, int(fd)) }
	return q
}}

func (q *query) run(rc syscall.RawConn, do func(*query, int)) error {
	q.do, q.err = do, nil
	if err := rc.Control(q.ask); err != nil {
		return err
	}
	return q.err
}

func (q *query) free() {
	q.info, q.err = nil, nil
	queries.Put(q)
}

// TransportOf returns the present transport of a connection, with one or two getsockopts and
// without allocating. It is Fallback for a socket that requested MPTCP and did not get it, or lost
// it. Where the kernel can not tell (older than 5.16) an MPTCP socket is Unknown.
func TransportOf(rc syscall.RawConn) (Transport, error) {
	q := queries.Get().(*query)
	err := q.run(rc, (*query).readTransport)
	t := q.transport
	q.free()
	return t, err
}

func (q *query) readTransport(fd int) {
	q.transport = Unknown
	protocol, e := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if e != 0 {
		q.err = e
		return
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		q.transport = TCP
	case unix.IPPROTO_MPTCP:
		q.transport = mptcpTransport(fd)
	case 0:
		if domain, e := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); e == 0 && domain == unix.AF_UNIX {
			q.transport = Unix
		}
	}
}

// mptcpTransport distinguishes MPTCP from a fallback on a socket whose protocol is MPTCP.
func mptcpTransport(fd int) Transport {
	is, isErr := getsockoptInt(fd, unix.SOL_TCP, optTCPIsMPTCP)
	if isErr == 0 {
		return classifyTransport(is, 0, 0, true)
	}
	var buf [infoSize]byte
	_, infoErr := getsockopt(fd, solMPTCP, optMPTCPInfo, buf[:])
	return classifyTransport(0, isErr, infoErr, infoErr == 0 || host().Info)
}

// classifyTransport is judge without a kernel: TCP_IS_MPTCP's answer, its errno, that of
// MPTCP_INFO, and whether this kernel knows MPTCP_INFO at all.
func classifyTransport(is int, isErr, infoErr syscall.Errno, knowsInfo bool) Transport {
	switch {
	case isErr == 0 && is != 0:
		return MPTCP
	case isErr == 0:
		return Fallback
	case infoErr == 0:
		return MPTCP
	case knowsInfo && notMPTCP(infoErr):
		return Fallback
	}
	return Unknown
}

// notMPTCP: SOL_MPTCP options are refused with EOPNOTSUPP on an IPv4 socket
// that fell back or is TCP, with ENOPROTOOPT on an IPv6 one.
func notMPTCP(e syscall.Errno) bool { return e == unix.EOPNOTSUPP || e == unix.ENOPROTOOPT }

// SubflowCount returns how many subflows a connection has now, with one cheap call.
// On a socket that does not use MPTCP it is 0 and ErrNotMPTCP. Before Linux
// 6.8 the kernel counts only those in addition to the initial one, which is then taken
// to live.
func SubflowCount(rc syscall.RawConn) (int, error) {
	q := queries.Get().(*query)
	err := q.run(rc, (*query).countSubflows)
	n := q.count
	q.free()
	return n, err
}

func (q *query) countSubflows(fd int) {
	q.count = 0
	b := q.full.info[:]
	n, e := getsockopt(fd, solMPTCP, optMPTCPInfo, b)
	if e != 0 {
		q.fail(e)
		return
	}
	q.count = countOf(b[:n])
}

func countOf(info []byte) int {
	switch {
	case len(info) >= 81:
		return int(info[80])
	case len(info) >= 1:
		return int(info[0]) + 1
	}
	return 0
}

// ReadSendState reads the SendState with one system call (1 us) that does not allocate. It fails
// with ErrNotMPTCP on a socket that uses TCP.
func ReadSendState(rc syscall.RawConn) (SendState, error) {
	q := queries.Get().(*query)
	err := q.run(rc, (*query).readSendState)
	g := q.sendState
	q.free()
	return g, err
}

func (q *query) readSendState(fd int) {
	q.sendState = SendState{}
	b := q.full.info[:]
	n, e := getsockopt(fd, solMPTCP, optMPTCPInfo, b)
	if e != 0 {
		q.fail(e)
		return
	}
	q.sendState = SendState{Token: u32(b[:n], 12), Outstanding: u64(b[:n], 16) - u64(b[:n], 24)}
}

func (q *query) fail(e syscall.Errno) {
	if notMPTCP(e) {
		q.err = ErrNotMPTCP
		return
	}
	q.err = e
}

// Read asks the kernel about the connection. It fails with ErrNotMPTCP on one
// that uses TCP. In steady state it does not allocate.
func (i *Info) Read(rc syscall.RawConn) error {
	i.reset()
	q := queries.Get().(*query)
	q.info = i
	err := q.run(rc, (*query).readInfo)
	q.free()
	return err
}

func (q *query) readInfo(fd int) {
	e := q.readFull(fd)
	if e == 0 {
		return
	}
	// Older than 6.5, or not MPTCP: the next call tells which.
	b := q.full.info[:]
	n, ie := getsockopt(fd, solMPTCP, optMPTCPInfo, b)
	if ie != 0 {
		q.fail(ie)
		return
	}
	q.info.decodeInfo(b[:n])
	q.readArrays(fd)
	q.info.normalize()
}

// normalize removes subflows that have ended, and derives SubflowsTotal on older kernels.
func (i *Info) normalize() {
	// The kernel keeps the socket of the initial subflow for the connection's
	// life: after its end it stands in the list, disconnected and without counts.
	i.Subflows = slices.DeleteFunc(i.Subflows, func(s Subflow) bool { return s.Remote.IsValid() && s.Remote.Port() == 0 })
	if i.Has&HasTotal != 0 {
		return
	}
	i.SubflowsTotal = i.SubflowsExtra + 1
	if i.Has&HasSubflows != 0 {
		i.SubflowsTotal = 0
		for k := range i.Subflows {
			if i.Subflows[k].Live() {
				i.SubflowsTotal++
			}
		}
	}
}

func (q *query) makeRoom(n int) {
	if n <= q.room {
		return
	}
	q.room = n
	q.sf = make([]byte, n*sfInfoSize+subflowDataSize)
	q.tcp = make([]byte, n*tcpInfoSize+subflowDataSize)
}

// readFull is MPTCP_FULL_INFO: everything in one atomic call.
func (q *query) readFull(fd int) syscall.Errno {
	q.makeRoom(usualSubflows)
	return q.readFullWithin(fd)
}

// readFullWithin asks with the room there is, and again if there are more.
func (q *query) readFullWithin(fd int) syscall.Errno {
	for {
		q.full = fullInfo{
			sizeTCPInfoUser: tcpInfoSize,
			sizeSFInfoUser:  sfInfoSize,
			sizeArraysUser:  uint32(q.room),
			subflowInfo:     uint64(uintptr(unsafe.Pointer(&q.sf[0]))),
			tcpInfo:         uint64(uintptr(unsafe.Pointer(&q.tcp[0]))),
		}
		head := unsafe.Slice((*byte)(unsafe.Pointer(&q.full)), fullInfoSize)
		n, e := getsockopt(fd, solMPTCP, optFullInfo, head)
		runtime.KeepAlive(q)
		if e != 0 {
			return e
		}
		if int(q.full.numSubflows) > q.room {
			q.makeRoom(int(q.full.numSubflows) + 2)
			continue
		}
		q.info.decodeFull(&q.full, head[:n], q.sf, q.tcp)
		return 0
	}
}

// decodeFull reads what MPTCP_FULL_INFO left in its struct and the two arrays.
// The kernel lowers the sizes "user" to what it knows and lays its elements out
// at that distance.
func (i *Info) decodeFull(f *fullInfo, head, sf, tcp []byte) {
	if len(head) > minFullInfoBytes {
		i.decodeInfo(head[minFullInfoBytes:])
	}
	sfLen, tcpLen := int(f.sizeSFInfoUser), int(f.sizeTCPInfoUser)
	for k := range int(min(f.numSubflows, f.sizeArraysUser)) {
		s := i.add()
		b := part(sf, k*sfLen, sfLen)
		s.ID = u32(b, 0)
		s.Initial = s.ID == 1
		if len(b) > 8 {
			s.decodeAddrs(b[8:])
		}
		s.decodeTCP(part(tcp, k*tcpLen, tcpLen))
	}
	if sfLen > 0 {
		i.Has |= HasIDs | HasSubflows
	}
	if tcpLen > 0 {
		i.Has |= HasTCP
	}
	i.normalize()
}

// add appends an empty subflow.
func (i *Info) add() *Subflow {
	i.Subflows = append(i.Subflows, Subflow{})
	return &i.Subflows[len(i.Subflows)-1]
}

// part is b[off:off+n], or as much of it as there is.
func part(b []byte, off, n int) []byte {
	if off >= len(b) {
		return nil
	}
	return b[off:min(off+n, len(b))]
}

// readArrays is the way of Linux 5.16 to 6.4: addresses and tcp_infos are two
// calls, both in the order of the kernel's list. A subflow that comes or goes
// between them would pair the wrong ones, so the addresses are read again; if
// they moved three times in a row, the addresses alone are given.
func (q *query) readArrays(fd int) {
	q.makeRoom(usualSubflows)
	for range 3 {
		n, count, e := q.readArray(fd, optSubflowAddrs, q.sf, sfAddrsSize)
		if e != 0 {
			return
		}
		if count > q.room {
			q.makeRoom(count + 2)
			continue
		}
		addrs := q.sf[:n]
		q.before = append(q.before[:0], addrs...)
		tn, _, te := q.readArray(fd, optTCPInfo, q.tcp, tcpInfoSize)
		n, _, e = q.readArray(fd, optSubflowAddrs, q.sf, sfAddrsSize)
		if e != 0 {
			return
		}
		addrs = q.sf[:n]
		q.info.Subflows = q.info.Subflows[:0]
		q.info.decodeArray(addrs, (*Subflow).decodeAddrs)
		q.info.Has |= HasSubflows
		if te == 0 && bytes.Equal(q.before, addrs) {
			q.info.decodeArray(q.tcp[:tn], (*Subflow).decodeTCP)
			q.info.Has |= HasTCP
			return
		}
	}
}

// readArray asks for one array of subflows; count is how many there are.
func (q *query) readArray(fd, opt int, buf []byte, size uint32) (n, count int, e syscall.Errno) {
	d := (*subflowData)(unsafe.Pointer(&buf[0]))
	*d = subflowData{sizeSubflowData: subflowDataSize, sizeUser: size}
	n, e = getsockopt(fd, solMPTCP, opt, buf[:subflowDataSize+q.room*int(size)])
	return n, int(d.numSubflows), e
}

// decodeArray reads an array behind its struct mptcp_subflow_data, extending
// i.Subflows as needed. As in decodeFull the kernel has lowered size_user.
func (i *Info) decodeArray(b []byte, decode func(*Subflow, []byte)) {
	if len(b) < subflowDataSize {
		return
	}
	count, size := int(u32(b, 4)), int(u32(b, 12))
	for k := range count {
		e := part(b, subflowDataSize+k*size, size)
		if len(e) == 0 {
			return
		}
		if k >= len(i.Subflows) {
			i.add()
		}
		decode(&i.Subflows[k], e)
	}
}

// getsockopt fills b and returns how much of it the kernel wrote.
func getsockopt(fd, level, opt int, b []byte) (int, syscall.Errno) {
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&n)), 0)
	return min(int(n), len(b)), e
}

func getsockoptInt(fd, level, opt int) (int, syscall.Errno) {
	var v int32
	n := uint32(4)
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	return int(v), e
}
