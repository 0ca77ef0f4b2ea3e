package telemetry

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// hot is what an exchange costs here: Start, End and the line.
func hot(m *ExchangeMeter, l *AccessLog, r *Record) {
	m.Start()
	r.ID = NewID()
	m.End(r)
	l.Log(r)
}

// openLog opens a log to a file that is thrown away, with its writer running.
func openLog(tb testing.TB, o AccessLogOptions) *AccessLog {
	tb.Helper()
	if o.Destination == "" && o.Output == nil {
		o.Destination = filepath.Join(tb.TempDir(), "access.log")
	}
	l, err := OpenAccessLog(o)
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Close(ctx) // some tests close it themselves, or close it with lines left
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return l
}

func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	for _, f := range []Format{FormatJSON, FormatText} {
		l := openLog(t, AccessLogOptions{Format: f, Redact: []string{"token"}})
		m := NewInstruments("1").Exchange("web", "api")
		s := NewInstruments("1").Server("b", "s")
		r := sample()
		r.Path = []byte("/x?token=1&y=\"\xff\u0081")
		for range 1000 { // buffers and pools fill
			hot(m, l, r)
		}
		if n := testing.AllocsPerRun(20000, func() {
			hot(m, l, r)
			s.Start()
			s.Request(200)
			s.FirstByte(r.BackendTime)
			s.Idle(1)
			s.Done()
		}); n != 0 {
			t.Errorf("%v: %v allocations an exchange, want 0", f, n)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	l := openLog(b, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: os.DevNull}})
	m := NewInstruments("1").Exchange("web", "api")
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		hot(m, l, r)
	}
}

func BenchmarkExchangeToFile(b *testing.B) {
	l := openLog(b, AccessLogOptions{})
	m := NewInstruments("1").Exchange("web", "api")
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		hot(m, l, r)
	}
}

func BenchmarkExchangeParallel(b *testing.B) {
	l := openLog(b, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: os.DevNull}})
	m := NewInstruments("1").Exchange("web", "api")
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		r := sample()
		for p.Next() {
			hot(m, l, r)
		}
	})
}

func BenchmarkMeter(b *testing.B) {
	m := NewInstruments("1").Exchange("web", "api")
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		m.Start()
		m.End(r)
	}
}

func BenchmarkLineJSON(b *testing.B) { benchmarkLine(b, appendJSON) }
func BenchmarkLineText(b *testing.B) { benchmarkLine(b, appendText) }

func benchmarkLine(b *testing.B, appendLine func([]byte, []field, *Record) []byte) {
	r, fields := sample(), accessFields(nil)
	line := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		line = appendLine(line[:0], fields, r)
	}
	b.SetBytes(int64(len(line)))
}

func BenchmarkNewID(b *testing.B) {
	for b.Loop() {
		NewID()
	}
}

func BenchmarkScrape1000Routes(b *testing.B) {
	in := NewInstruments("1")
	r := sample()
	for i := range 1000 {
		m := in.Exchange("web", string(rune('a'+i%26))+string(rune('0'+i/26)))
		m.Start()
		m.End(r)
	}
	for b.Loop() {
		if _, err := in.Registry().Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
