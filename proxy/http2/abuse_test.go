package http2

import (
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
)

// Each attack writes until the connection fails. The gateway must end it with ENHANCE_YOUR_CALM,
// answer an innocent client meanwhile, and hold no memory for it.
var attacks = []struct {
	name string
	send func(p *peer, i int) error
}{
	{"rapid reset", func(p *peer, i int) error {
		id := uint32(2*i + 1)
		if err := p.open(id, true); err != nil {
			return err
		}
		return p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}},
	{"made you reset by a zero window update", func(p *peer, i int) error {
		id := uint32(2*i + 1)
		if err := p.open(id, true); err != nil {
			return err
		}
		return p.fr.WriteWindowUpdate(id, 0)
	}},
	{"made you reset by data behind the end", func(p *peer, i int) error {
		id := uint32(2*i + 1)
		if err := p.open(id, true, "x-wait", "1"); err != nil {
			return err
		}
		return p.fr.WriteData(id, false, []byte("x"))
	}},
	{"made you reset by a priority", func(p *peer, i int) error {
		id := uint32(2*i + 1)
		if err := p.open(id, true); err != nil {
			return err
		}
		return p.fr.WritePriority(id, http2.PriorityParam{StreamDep: id})
	}},
	{"malformed requests", func(p *peer, i int) error {
		return p.open(uint32(2*i+1), true, "Upper", "1")
	}},
	{"more streams than allowed", func(p *peer, i int) error {
		return p.open(uint32(2*i+1), false, "x-wait", "1")
	}},
	{"SETTINGS", func(p *peer, i int) error {
		return p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
	}},
	{"SETTINGS acknowledgements", func(p *peer, i int) error { return p.fr.WriteSettingsAck() }},
	{"PING", func(p *peer, i int) error { return p.fr.WritePing(false, [8]byte{}) }},
	{"PING answers", func(p *peer, i int) error { return p.fr.WritePing(true, [8]byte{pingSpeed}) }},
	{"PRIORITY", func(p *peer, i int) error { return p.fr.WritePriority(9999, http2.PriorityParam{}) }},
	{"PRIORITY_UPDATE", func(p *peer, i int) error { return p.fr.WritePriorityUpdate(9999, "u=1") }},
	{"unknown frames", func(p *peer, i int) error { return p.fr.WriteRawFrame(0x77, 0, 0, nil) }},
	{"empty DATA", func(p *peer, i int) error {
		if i == 0 {
			return p.open(1, false)
		}
		return p.fr.WriteData(1, false, nil)
	}},
	{"ends of a closed stream", func(p *peer, i int) error {
		switch i {
		case 0:
			return p.open(1, true)
		case 1:
			return p.fr.WriteData(1, false, []byte("behind the end"))
		}
		return p.fr.WriteData(1, true, nil)
	}},
	{"padding without DATA", func(p *peer, i int) error {
		if i == 0 {
			return p.open(1, false)
		}
		return p.fr.WriteDataPadded(1, false, nil, make([]byte, 10))
	}},
	{"WINDOW_UPDATE of 1", func(p *peer, i int) error { return p.fr.WriteWindowUpdate(0, 1) }},
	{"resets of closed streams", func(p *peer, i int) error {
		if i == 0 {
			return p.open(1, true)
		}
		return p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
	}},
	{"CONTINUATION without end", func(p *peer, i int) error {
		if i == 0 {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
		}
		return p.fr.WriteContinuation(1, false, p.block("x-"+strings.Repeat("y", 1000), "z"))
	}},
	{"empty CONTINUATION", func(p *peer, i int) error {
		if i == 0 {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
		}
		return p.fr.WriteContinuation(1, false, nil)
	}},
	{"HPACK bomb", func(p *peer, i int) error {
		block := append([]byte{}, p.block(append(append([]string{}, get...), "x-bomb", strings.Repeat("b", 4000))...)...)
		for range 8000 {
			block = append(block, 0x80|62)
		}
		return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
	}},
	{"cookie crumbs", func(p *peer, i int) error {
		block := append([]byte{}, p.block(append(append([]string{}, get...), "cookie", "")...)...)
		for range 16000 {
			block = append(block, 0x80|62)
		}
		return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndStream: true, EndHeaders: true})
	}},
	{"header lists without end", func(p *peer, i int) error {
		block := p.block(append(append([]string{}, get...), "x-long", strings.Repeat("b", 200<<10))...)
		if err := p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block[:16000]}); err != nil {
			return err
		}
		for block = block[16000:]; len(block) > 16000; block = block[16000:] {
			if err := p.fr.WriteContinuation(uint32(2*i+1), false, block[:16000]); err != nil {
				return err
			}
		}
		return p.fr.WriteContinuation(uint32(2*i+1), true, block)
	}},
}

func TestFloodsEndInCalm(t *testing.T) {
	var worked atomic.Int64
	release := make(chan struct{})
	defer close(release)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		var r message.Request
		if err := s.ReadRequest(&r, time.Time{}); err != nil {
			if fault, ok := err.(*message.Error); ok {
				respond(s, fault.Status, fault.Reason)
			}
			return
		}
		worked.Add(1)
		for i := range r.Header.Len() {
			if _, name, _, _ := r.Header.At(i); string(name) == "x-wait" {
				gone := make(chan struct{})
				s.Watch(func() { close(gone) })
				defer s.StopWatch()
				select {
				case <-gone:
				case <-release:
				}
				return
			}
		}
		respond(s, 200, "fine")
	})
	innocent := oracle(t)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			before := heap()
			worked.Store(0)
			p := connect(t, f.addr)
			_ = p.c.SetWriteDeadline(time.Now().Add(20 * time.Second))
			sent := 0
			for ; sent < 100000; sent++ {
				if a.send(p, sent) != nil {
					break
				}
				if sent%1000 == 999 {
					resp, err := innocent.Get("http://" + f.addr + "/")
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(b) != "fine" {
						t.Fatalf("an innocent client got %q, %v", b, err)
					}
				}
			}
			code, err := p.ended()
			if err == nil && code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("ended with %v after %d, want ENHANCE_YOUR_CALM", code, sent)
			}
			if err != nil && err != io.EOF { // a reset of the connection may overtake the GOAWAY
				t.Errorf("after %d: %v", sent, err)
			}
			if sent == 100000 {
				t.Error("nothing stopped the flood")
			}
			if grown := heap() - before; grown > 8<<20 {
				t.Errorf("the flood left %d KiB", grown>>10)
			}
			t.Logf("ended with %v, %v after %d; %d requests worked on", code, err, sent, worked.Load())
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// As many settings as a frame can hold are as many walks over the streams.
func TestManySettingsInAFrame(t *testing.T) {
	f := serve(t, ServerOptions{}, answer(200, "x"))
	p := connect(t, f.addr)
	if err := p.fr.WriteSettings(make([]http2.Setting, maxSettings+1)...); err != nil {
		t.Fatal(err)
	}
	if g := p.next(http2.FrameGoAway); g.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("ended with %v, want ENHANCE_YOUR_CALM", g.code)
	}
}

// A frame with many settings counts as several.
func TestManySettingsInFewFrames(t *testing.T) {
	f := serve(t, ServerOptions{}, answer(200, "x"))
	p := connect(t, f.addr)
	list := make([]http2.Setting, maxSettings)
	for i := range list {
		list[i] = http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)}
	}
	for range controlBudget / 4 {
		if p.fr.WriteSettings(list...) != nil {
			break
		}
	}
	if g := p.next(http2.FrameGoAway); g.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("ended with %v, want ENHANCE_YOUR_CALM", g.code)
	}
}

// A stream that is reset before its handler runs starts no work.
func TestResetInTheSameBreathStartsNoWork(t *testing.T) {
	var worked atomic.Int64
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		worked.Add(1)
		answer(200, "x")(s)
	})
	p := connect(t, f.addr)
	var b strings.Builder
	fr := http2.NewFramer(&b, nil)
	for i := range 50 {
		id := uint32(2*i + 1)
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(get...), EndStream: true, EndHeaders: true})
		_ = fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 201, BlockFragment: p.block(get...), EndStream: true, EndHeaders: true})
	if _, err := io.WriteString(p.c, b.String()); err != nil {
		t.Fatal(err)
	}
	if h := p.next(http2.FrameHeaders); h.StreamID != 201 {
		t.Errorf("stream %d was answered", h.StreamID)
	}
	if n := worked.Load(); n > 3 { // the bytes may come in more than one read
		t.Errorf("%d streams were worked on, want 1", n)
	}
}

// Who gives no window for answers has few requests worked on at once, and the others one after the
// other: all get their heads.
func TestRequestsWithoutAWindowStartSlowly(t *testing.T) {
	const n = 30
	begun := make(chan time.Time, n)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		begun <- time.Now()
		answer(200, "body")(s)
	})
	p := connect(t, f.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range n {
		if err := p.open(uint32(2*i+1), true); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		p.next(http2.FrameHeaders)
	}
	first := <-begun
	last := first
	for range n - 1 {
		if at := <-begun; at.After(last) {
			last = at
		}
	}
	if took, least := last.Sub(first), (n-maxUnread-1)*unreadPause; took < least {
		t.Errorf("%d requests were started within %v, want %v at least", n, took, least)
	}
	// A window for all: nothing waits any more.
	if err := p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}); err != nil {
		t.Fatal(err)
	}
	for range n {
		p.next(http2.FrameData)
	}
}

// Streams at a zero window hold what is in their hands and no more, which is accounted for, and go
// when their time is over. Beyond the limit a connection that holds much gets no further ones
// started, and another one does.
func TestZeroWindows(t *testing.T) {
	const streams, size = 30, 100 << 10
	mem := &Memory{Limit: 1 << 20}
	big := strings.Repeat("x", size)
	f := serve(t, ServerOptions{Memory: mem, Limits: Limits{IdleTime: 500 * time.Millisecond}}, func(s *ServerStream) {
		if s.req.Header.Len() > 0 { // a bystander
			answer(200, "x")(s)
			return
		}
		answer(200, big)(s)
	})
	p := connect(t, f.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	for i := range streams {
		if err := p.open(uint32(2*i+1), true); err != nil {
			t.Fatal(err)
		}
	}
	if !proxytest.Within(proxytest.Patience, mem.Full) {
		t.Errorf("%d bytes are accounted for, want the limit at least", mem.Used())
	}
	if err := p.open(2*streams+1, true); err != nil {
		t.Fatal(err)
	}
	server := <-f.conns
	if !proxytest.Within(proxytest.Patience, func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.backlog > 0
	}) {
		t.Error("one more stream does not wait")
	}
	bystander := connect(t, f.addr)
	if err := bystander.open(1, true, "x-bystander", "1"); err != nil {
		t.Fatal(err)
	}
	bystander.next(http2.FrameHeaders)
	for range streams + 1 {
		if r := p.next(http2.FrameRSTStream); r.code != http2.ErrCodeInternal && r.code != http2.ErrCodeCancel {
			t.Errorf("stream %d was reset with %v", r.StreamID, r.code)
		}
	}
	p.c.Close()
	<-f.ended
	if mem.Used() != 0 {
		t.Errorf("%d bytes are still accounted for", mem.Used())
	}
}
