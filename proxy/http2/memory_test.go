package http2

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
)

// What clients send within the windows that they were granted is taken in, though it is more than
// the limit: no stream is reset. What is held stays bounded by what is granted then.
func TestGrantedWindowsAreHonouredWhenMemoryIsShort(t *testing.T) {
	const conns, streams, size = 6, 20, 60 << 10
	mem := &Memory{Limit: 1 << 20}
	release := make(chan bool)
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	f := serve(t, ServerOptions{Memory: mem}, takingOnce(release))
	clients := make([]*ClientConn, conns)
	var wg sync.WaitGroup
	for i := range clients {
		clients[i] = dial(t, f.addr, ClientOptions{})
		for range streams {
			wg.Go(func() { wantOK(t, clients[i], "/later", size) })
		}
	}
	if !proxytest.Within(proxytest.Patience, func() bool { return mem.Full() && stalled(clients) }) {
		t.Errorf("%d bytes are accounted for, want the limit", mem.Used())
	}
	if used, most := mem.Used(), mem.Limit+conns*(2*connWindow+holdStep)+conns*streams*minWindow; used > most {
		t.Errorf("%d bytes are held, want %d at most", used, most)
	}
	if !mem.Pressed() {
		t.Error("memory is full and not pressed")
	}
	// Others continue: on connections that there are, and on new ones.
	wantOK(t, clients[0], "/now", 300<<10)
	wantOK(t, dial(t, f.addr, ClientOptions{}), "/now", 300<<10)
	goOn()
	wg.Wait()
	if mem.Used() != 0 || mem.Pressed() {
		t.Errorf("%d bytes are still accounted for, pressed: %v", mem.Used(), mem.Pressed())
	}
}

// stalled says whether the peers' windows let nobody send.
func stalled(conns []*ClientConn) bool {
	for _, c := range conns {
		c.mu.Lock()
		for _, s := range c.streams {
			if !s.sentEnd && s.sendWindow > 0 && c.sendWindow > 0 {
				c.mu.Unlock()
				return false
			}
		}
		c.mu.Unlock()
	}
	return true
}

// Downloads likewise: nobody takes what many streams of a server bring, and when somebody does, all
// of it is there.
func TestDownloadsAreWholeWhenMemoryIsShort(t *testing.T) {
	const conns, streams, size = 3, 20, 200 << 10
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, size)) })
	mem := &Memory{Limit: 512 << 10}
	var open []*ClientStream
	var last *ClientConn
	for range conns {
		last = dial(t, addr, ClientOptions{Memory: mem})
		for range streams - 1 {
			open = append(open, ask(t, last))
		}
	}
	if !proxytest.Within(proxytest.Patience, mem.Full) {
		t.Errorf("%d bytes are accounted for, want the limit", mem.Used())
	}
	if res, err := exchange(last, request("GET", "/", 0), nil); err != nil || len(res.body) != size {
		t.Errorf("a reader beside those who take nothing got %d bytes of %d, %v", len(res.body), size, err)
	}
	if used, most := mem.Used(), mem.Limit+conns*(2*connWindow+holdStep)+conns*streams*minWindow; used > most {
		t.Errorf("%d bytes are held, want %d at most", used, most)
	}
	for _, s := range open {
		if n, err := drain(s); n != size || err != io.EOF {
			t.Fatalf("%d bytes of %d came, %v", n, size, err)
		}
		s.Release()
	}
	if mem.Used() != 0 {
		t.Errorf("%d bytes are still accounted for", mem.Used())
	}
}

// ask begins an exchange and reads the head.
func ask(t *testing.T, c *ClientConn) *ClientStream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.End(nil)); err != nil {
		t.Fatal(err)
	}
	var r message.Response
	if err := s.ReadHead(&r, time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	return s
}

// drain reads a body to its end.
func drain(s *ClientStream) (n int, err error) {
	for {
		p, err := s.Body().Next(true)
		if n += len(p); err != nil {
			return n, err
		}
	}
}

// A place that was reserved when memory was short has the window of the time when its stream is
// opened.
func TestReservedPlaceHasTheWindowOfItsStream(t *testing.T) {
	const size = 60 << 10
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, size)) })
	mem := &Memory{Limit: 1 << 20}
	mem.hold(1 << 20)
	c := dial(t, addr, ClientOptions{Memory: mem})
	enforced := func() int64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.enforced
	}
	get := func() {
		t.Helper()
		if res, err := exchange(c, request("GET", "/", 0), nil); err != nil || len(res.body) != size {
			t.Fatalf("%d bytes of %d, %v", len(res.body), size, err)
		}
	}
	if get(); enforced() != defaultWindow-minWindow {
		t.Fatalf("windows are smaller by %d, want %d", enforced(), defaultWindow-minWindow)
	}
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	mem.release(1 << 20)
	if get(); enforced() != 0 {
		t.Fatalf("windows are smaller by %d, want none", enforced())
	}
	if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.End(nil)); err != nil {
		t.Fatal(err)
	}
	var r message.Response
	if err := s.ReadHead(&r, time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	if !proxytest.Within(proxytest.Patience, s.body.whole) {
		t.Error("the answer does not come whole")
	}
	if n, err := drain(s); n != size || err != io.EOF {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

// Windows that grew shrink as bytes come when memory is short, grow again afterwards, and what was
// leased for them is given back. New connections begin with small windows meanwhile.
func TestWindowsShrinkWhenMemoryIsShort(t *testing.T) {
	mem := &Memory{Limit: 64 << 20}
	f := serve(t, ServerOptions{Memory: mem}, echo)
	c := dial(t, f.addr, ClientOptions{})
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.WriteHead(request("POST", "/", message.Unknown)); err != nil {
		t.Fatal(err)
	}
	var r message.Response
	if err := errors.Join(s.Flush(), s.ReadHead(&r, time.Now().Add(generous))); err != nil {
		t.Fatal(err)
	}
	pass := func(size int) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			var err error
			for left := size; left > 0 && err == nil; left -= 32 << 10 {
				err = s.WriteBody(make([]byte, 32<<10))
			}
			done <- errors.Join(err, s.Flush())
		}()
		for n := 0; n < size; {
			p, err := s.Body().Next(true)
			if n += len(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	server := <-f.conns
	windows := func() (of, conn int64, leased int) {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.streams[1].target - server.cutback, server.recvTarget, server.leased
	}
	reaches := func(want string, ok func(of, conn int64, leased int) bool) {
		t.Helper()
		for range 100 {
			if pass(1 << 20); ok(windows()) {
				return
			}
		}
		t.Fatal(want, fmt.Sprint(windows()))
	}
	grown := func(of, conn int64, leased int) bool { return of > defaultWindow && conn >= 2*of && leased > 0 }
	reaches("the window does not grow", grown)
	mem.hold(48 << 20)
	reaches("the window does not shrink", func(of, conn int64, leased int) bool {
		return of == minWindow && conn == connWindow && leased == 0
	})
	p := connect(t, f.addr)
	for settled := false; !settled; {
		switch seen := <-p.frames; seen.Type {
		case http2.FrameSettings:
			settled = seen.Flags.Has(http2.FlagSettingsAck)
		case http2.FrameWindowUpdate:
			t.Error("a new connection is granted more than the least")
		}
	}
	other := <-f.conns
	other.mu.Lock()
	if other.cutback != defaultWindow-minWindow {
		t.Errorf("a new connection begins with windows that are smaller by %d, want %d", other.cutback, defaultWindow-minWindow)
	}
	other.mu.Unlock()
	mem.release(48 << 20)
	reaches("the window does not grow again", grown)
}

// A peer that does not acknowledge the small windows gets no more of the connection's than is free
// for each; one that does, and does not keep to them, has its stream reset.
func TestPeersThatIgnoreSmallWindows(t *testing.T) {
	mem := &Memory{Limit: 1 << 20}
	mem.hold(1 << 20)
	release := make(chan bool)
	defer close(release)
	f := serve(t, ServerOptions{Memory: mem}, func(*ServerStream) { <-release })
	p := connect(t, f.addr)
	server := <-f.conns
	const streams = 20
	for i := range uint32(streams) {
		if err := p.open(2*i+1, false); err != nil {
			t.Fatal(err)
		}
	}
	left, granted := [streams]int{}, defaultWindow
	for i := range left {
		left[i] = defaultWindow
	}
	most := defaultWindow + connWindow + holdStep + streams*(minWindow+maxFrame)
	for i := 0; i < streams; {
		n := min(4<<10, left[i])
		if n == 0 {
			i++
			continue
		}
		if granted < n {
			if granted += p.granted(); granted < n {
				break
			}
			continue
		}
		left[i], granted = left[i]-n, granted-n
		if err := p.fr.WriteData(uint32(2*i+1), false, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if held := mem.Used() - mem.Limit; held > int64(most) || held < connWindow {
		t.Errorf("%d bytes are held for a peer that acknowledges nothing, want from %d to %d", held, connWindow, most)
	}
	if err := errors.Join(p.fr.WriteSettingsAck(), p.fr.WriteSettingsAck()); err != nil {
		t.Fatal(err)
	}
	for granted < 20<<10 { // the connection's window is there again
		if granted += p.granted(); granted == 0 {
			t.Fatal("nothing is granted to a peer that keeps to its windows")
		}
	}
	if err := errors.Join(p.open(2*streams+1, false), p.fr.WriteData(2*streams+1, false, make([]byte, 16<<10))); err != nil {
		t.Fatal(err)
	}
	if err := p.fr.WriteData(2*streams+1, false, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if r := p.next(http2.FrameRSTStream); r.StreamID != 2*streams+1 || r.code != http2.ErrCodeFlowControl {
		t.Errorf("stream %d was reset with %v, want FLOW_CONTROL_ERROR", r.StreamID, r.code)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.streams) != streams+1 {
		t.Errorf("%d streams are left, want %d", len(server.streams), streams+1)
	}
}

// The end of a body, which takes nothing of a window, is welcome where less than nothing is left of
// it.
func TestEndOfABodyBeyondASmallerWindow(t *testing.T) {
	mem := &Memory{Limit: 1 << 20}
	mem.hold(1 << 20)
	release := make(chan bool)
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	f := serve(t, ServerOptions{Memory: mem}, func(s *ServerStream) {
		<-release
		answer(200, "x")(s)
	})
	p := connect(t, f.addr)
	if err := p.open(1, false); err != nil {
		t.Fatal(err)
	}
	for range 3 { // before the small windows are known
		if err := p.fr.WriteData(1, false, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.fr.WriteSettingsAck(), p.fr.WriteData(1, true, nil)); err != nil {
		t.Fatal(err)
	}
	p.granted() // all of it has been read, and nothing was reset
	goOn()
	if h := p.next(http2.FrameHeaders); h.StreamID != 1 {
		t.Errorf("stream %d was answered", h.StreamID)
	}
}

// granted is by how much the connection's window has grown, as far as the peer knows when it has
// answered a ping.
func (p *peer) granted() (n int) {
	if err := p.fr.WritePing(false, [8]byte{2}); err != nil {
		p.t.Fatal(err)
	}
	for f := range p.frames {
		switch {
		case f.Type == http2.FrameWindowUpdate && f.StreamID == 0:
			n += int(f.grown)
		case f.Type == http2.FrameRSTStream:
			p.t.Fatalf("stream %d was reset with %v", f.StreamID, f.code)
		case f.Type == http2.FramePing && f.Flags.Has(http2.FlagPingAck) && f.data[0] == 2:
			return n
		}
	}
	return n
}

// The limit is a part of what the process may use.
func TestMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	for all, want := range map[int64]int64{math.MaxInt64: 256 << 20, 8 << 30: 256 << 20, 160 << 20: 20 << 20, 8 << 20: 4 << 20} {
		debug.SetMemoryLimit(all)
		if got := MemoryLimit(); got != want {
			t.Errorf("with %d bytes for the process the limit is %d, want %d", all, got, want)
		}
	}
}

// Between a half and three quarters it counts what was before.
func TestMemoryIsPressedUntilAHalf(t *testing.T) {
	mem := &Memory{Limit: 100}
	for _, step := range []struct {
		change        int
		pressed, full bool
	}{{74, false, false}, {1, true, false}, {25, true, true}, {-40, true, false}, {-10, false, false}, {20, false, false}, {-70, false, false}} {
		if step.change > 0 {
			mem.hold(step.change)
		} else {
			mem.release(-step.change)
		}
		if mem.Pressed() != step.pressed || mem.Full() != step.full {
			t.Errorf("at %d: pressed %v, full %v", mem.Used(), mem.Pressed(), mem.Full())
		}
	}
	if none := (*Memory)(nil); none.Pressed() || none.Full() {
		t.Error("no memory has a limit")
	}
}
