package config

import "testing"

func TestNearest(t *testing.T) {
	names := []string{"header_bytes", "header_time", "idle_time", "off", "on"}
	for in, want := range map[string]string{
		"header_byte": "header_bytes", "haeder_time": "header_time", "Idle_Time": "idle_time", "idletime": "idle_time", "of": "off",
		"header": "", "xyz": "", "": "", "o": "on",
	} {
		if got := nearest(in, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1},
	} {
		if got := distance(tt.a, tt.b, 10); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestKeyLess(t *testing.T) {
	sorted := []string{"a", "a.b", "a[0]", "a[1].x", "a[1].y", "a[2]", "a[10]", "a[11]", "b"}
	for i := range sorted {
		for j := range sorted {
			if got := keyLess(sorted[i], sorted[j]); got != (i < j) {
				t.Errorf("keyLess(%q, %q) = %v", sorted[i], sorted[j], got)
			}
		}
	}
}
