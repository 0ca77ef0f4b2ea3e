package http2

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
)

// longPath relays connections to addr over a path whose every byte takes so long in each direction,
// and that is never full.
func longPath(t testing.TB, addr string, delay time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			conns = append(conns, a, b)
			mu.Unlock()
			wg.Go(func() { delayed(a, b, delay) })
			wg.Go(func() { delayed(b, a, delay) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// delayed copies from one to the other, each piece as long after it came.
func delayed(from, to net.Conn, delay time.Duration) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1<<16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for p := range pieces {
			<-time.After(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				from.Close()
			}
		}
		to.Close()
	})
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if n > 0 {
			pieces <- piece{b[:n], time.Now().Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	wg.Wait()
}

// One stream fills a long path: at 50 ms a window of 64 KiB would carry 1.3 MB a second.
func TestWindowsGrowWithThePath(t *testing.T) {
	const total = 64 << 20
	for name, c := range map[string]struct{ up, down int }{"upload": {total, 0}, "download": {0, total}} {
		t.Run(name, func(t *testing.T) {
			mem := &Memory{Limit: 1 << 30}
			f := serve(t, ServerOptions{Memory: mem}, func(s *ServerStream) {
				var r message.Request
				if s.ReadRequest(&r, time.Time{}) != nil {
					return
				}
				n := 0
				for {
					p, err := s.Body().Next(true)
					if err != nil {
						break
					}
					n += len(p)
				}
				if n != c.up {
					t.Errorf("%d bytes came of %d", n, c.up)
				}
				respond(s, 200, strings.Repeat("x", c.down))
			})
			client := dial(t, longPath(t, f.addr, 25*time.Millisecond), ClientOptions{Memory: mem})
			start := time.Now()
			res, err := exchange(client, request("POST", "/", int64(c.up)), make([]byte, c.up))
			took := time.Since(start)
			if err != nil || len(res.body) != c.down {
				t.Fatalf("%d bytes of %d, %v", len(res.body), c.down, err)
			}
			if mbit := float64(total) * 8 / took.Seconds() / 1e6; mbit < 25 && !raceEnabled {
				t.Errorf("%.0f Mbit/s, want 25 at least, on a busy machine: a fixed window gives 10", mbit)
			} else {
				t.Logf("%.0f Mbit/s, %v", mbit, took)
			}
			client.Close()
			<-f.ended
			if mem.Used() != 0 {
				t.Errorf("%d bytes are still leased", mem.Used())
			}
		})
	}
}

// A reader that does not keep up gets no larger window, and what a peer can send it stays within
// the first.
func TestSlowReadersKeepTheirWindow(t *testing.T) {
	goOn := make(chan bool)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		var r message.Request
		_ = s.ReadRequest(&r, time.Time{})
		<-goOn
		for {
			if _, err := s.Body().Next(true); err != nil {
				break
			}
		}
		respond(s, 200, "")
	})
	p := connect(t, f.addr)
	if err := p.open(1, false); err != nil {
		t.Fatal(err)
	}
	for range 4 { // of 16 KiB are one more than fits
		if err := p.fr.WriteData(1, false, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if r := p.next(http2.FrameRSTStream); r.code != http2.ErrCodeFlowControl {
		t.Errorf("reset with %v, want FLOW_CONTROL_ERROR", r.code)
	}
	close(goOn)
}

// Streams whose readers take nothing do not stop the others of their connection.
func TestReadersWhoTakeNothingStopNobodyElse(t *testing.T) {
	goOn := make(chan bool)
	f := serve(t, ServerOptions{}, takingOnce(goOn))
	c := dial(t, f.addr, ClientOptions{})
	var wg sync.WaitGroup
	for range connWindow/defaultWindow + 1 {
		wg.Go(func() { wantOK(t, c, "/later", defaultWindow) })
	}
	server := <-f.conns
	if !proxytest.Within(proxytest.Patience, func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.inboxBytes > connWindow
	}) {
		t.Error("the connection's window is not granted anew")
	}
	wantOK(t, c, "/now", 1000)
	close(goOn)
	wg.Wait()
}

// takingOnce is a handler that takes bodies at /later once it may, others at once.
func takingOnce(goOn <-chan bool) func(*ServerStream) {
	return func(s *ServerStream) {
		if string(s.req.Path) == "/later" {
			<-goOn
		}
		answer(200, "x")(s)
	}
}

// wantOK sends a body and wants the answer.
func wantOK(t *testing.T, c *ClientConn, path string, size int) {
	if res, err := exchange(c, request("POST", path, int64(size)), make([]byte, size)); err != nil || res.status != 200 {
		t.Errorf("%s: %d, %v", path, res.status, err)
	}
}

// Padding is granted again though no reader takes it.
func TestPaddingAloneKeepsTheWindow(t *testing.T) {
	f := serve(t, ServerOptions{}, answer(200, "x"))
	p := connect(t, f.addr)
	if err := p.open(1, false); err != nil {
		t.Fatal(err)
	}
	for range defaultWindow / 256 {
		if err := p.fr.WriteDataPadded(1, false, nil, make([]byte, 255)); err != nil {
			t.Fatal(err)
		}
	}
	for p.next(http2.FrameWindowUpdate).StreamID != 1 {
	}
}

// A peer that takes long to take what it was sent, and then tells of every 4 KiB of it for the
// stream and for the connection, all at once, is no flood: Go's server does so.
func TestManyWindowUpdatesForMuchData(t *testing.T) {
	const size = 16 << 20
	f := serve(t, ServerOptions{}, answer(200, strings.Repeat("x", size)))
	p := connect(t, f.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: size})
	if err := p.fr.WriteWindowUpdate(0, size); err != nil {
		t.Fatal(err)
	}
	if err := p.open(1, true); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < size; {
		n += len(p.next(http2.FrameData).data)
	}
	if err := p.open(3, true); err != nil {
		t.Fatal(err)
	}
	for range size / (4 << 10) {
		if err := errors.Join(p.fr.WriteWindowUpdate(0, 4<<10), p.fr.WriteWindowUpdate(3, 4<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < size; {
		n += len(p.next(http2.FrameData).data)
	}
}

// Streams go by urgency, and by their turns where they are incremental.
func TestPriorities(t *testing.T) {
	const size = 96 << 10
	ready := make(chan bool, 8)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		var r message.Request
		if s.ReadRequest(&r, time.Time{}) != nil {
			return
		}
		resp := message.Response{Status: 200, ContentLength: size}
		if s.WriteHead(&resp) != nil || s.Flush() != nil {
			return
		}
		ready <- true
		if s.WriteBody(make([]byte, size)) == nil {
			_ = s.End(nil)
		}
	})
	p := connect(t, f.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	// The connection's window of 65535 bytes is used up first, so that all streams wait together.
	if err := p.open(1, true, "priority", "u=0"); err != nil {
		t.Fatal(err)
	}
	<-ready
	for n := 0; n < 65535; {
		n += len(p.next(http2.FrameData).data)
	}
	for i, priority := range []string{"u=5", "u=1, i", "u=1, i", "u=4"} {
		if err := p.open(uint32(2*i+3), true, "priority", priority); err != nil {
			t.Fatal(err)
		}
		<-ready
	}
	if err := p.fr.WritePriorityUpdate(3, "u=7"); err != nil {
		t.Fatal(err)
	}
	// All of it has been read when the answer comes.
	if err := p.fr.WritePing(false, [8]byte{1}); err != nil {
		t.Fatal(err)
	}
	p.next(http2.FramePing)
	waitQueued(t, <-f.conns, 5)
	if err := p.fr.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	var order []uint32
	for ended := 0; ended < 5; {
		d := p.next(http2.FrameData)
		if d.data != "" && (len(order) == 0 || order[len(order)-1] != d.StreamID) {
			order = append(order, d.StreamID)
		}
		if d.Flags.Has(http2.FlagDataEndStream) {
			ended++
		}
	}
	first, last := order[0], order[len(order)-2:]
	if first != 1 || last[0] != 9 || last[1] != 3 || len(order) < 8 {
		t.Errorf("streams were sent in the order %v; want 1, then 5 and 7 in turn, then 9, then 3", order)
	}
}

// waitQueued waits until so many streams wait for their turn.
func waitQueued(t testing.TB, c *ServerConn, want int) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); {
		c.mu.Lock()
		n := 0
		for _, q := range c.queues {
			for s := q.first; s != nil; s = s.next {
				n++
			}
		}
		c.mu.Unlock()
		if n == want {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Fatalf("%d streams never waited together", want)
}
