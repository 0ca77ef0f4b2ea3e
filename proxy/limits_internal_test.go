package proxy

import "testing"

// A minimum rate below zero is none; zero is the default.
func TestMinimumRate(t *testing.T) {
	for in, want := range map[int64]int64{-1: -1, 0: 256, 1000: 1000} {
		p := New(Options{Limits: Limits{MinRate: in}})
		if l := p.limits.Load(); l.http.MinRate != want || l.http2.MinRate != want {
			t.Errorf("%d became %d and %d bytes a second, want %d", in, l.http.MinRate, l.http2.MinRate, want)
		}
		p.Shutdown(t.Context())
	}
}
