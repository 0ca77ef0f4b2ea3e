package message

import (
	"bytes"
	"strings"
	"testing"
)

func TestLookupKnowsEveryNameInAnyCase(t *testing.T) {
	seen := map[uint8]ID{}
	for id := Other + 1; id < numIDs; id++ {
		name := id.String()
		if name == "" {
			t.Fatalf("ID %d has no name", id)
		}
		if other, taken := seen[hash(name)]; taken {
			t.Errorf("%s and %s share a slot: change hash", name, other)
		}
		seen[hash(name)] = id
		for _, s := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got := Lookup([]byte(s)); got != id {
				t.Errorf("Lookup(%q) = %v, want %v", s, got, id)
			}
		}
		if got := Lookup([]byte(name + "x")); got != Other {
			t.Errorf("Lookup(%q) = %v, want Other", name+"x", got)
		}
	}
	if numIDs > 64 {
		t.Errorf("%d IDs do not fit the 64 bits of Header.has", numIDs)
	}
}

func TestEqualFoldFoldsOnlyLetters(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"Host", "hOST", true}, {"a@b", "a`b", false}, {"k", "K", true}, {"a[", "a{", false}, {"ab", "abc", false}} {
		if got := EqualFold([]byte(c.a), c.b); got != c.want {
			t.Errorf("EqualFold(%q, %q) = %v", c.a, c.b, got)
		}
		if got := EqualFold([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("EqualFold(%q, %q) of bytes = %v", c.a, c.b, got)
		}
	}
}

func dump(h *Header) string {
	var b bytes.Buffer
	for i := range h.Len() {
		if _, name, value, ok := h.At(i); ok {
			b.WriteString(string(name) + "=" + string(value) + ";")
		}
	}
	return b.String()
}

func TestHeader(t *testing.T) {
	var h Header
	h.Add(Host, []byte("a.example"))
	h.AddName([]byte("X-One"), []byte("1"))
	h.AddName([]byte("cookie"), []byte("a=1"))
	h.AddName([]byte("x-ONE"), []byte("2"))
	if got, want := dump(&h), "Host=a.example;X-One=1;cookie=a=1;x-ONE=2;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if string(h.Get(Cookie)) != "a=1" || h.Get(Via) != nil || !h.Has(Host) || h.Has(Via) {
		t.Error("Get or Has is wrong")
	}
	if n := h.DelName([]byte("X-one")); n != 2 {
		t.Errorf("DelName took %d off, want 2", n)
	}
	h.Set(Host, []byte("b.example"))
	h.DelAt(h.Index(Cookie, 0))
	if h.Has(Cookie) {
		t.Error("a field that DelAt took off is still there")
	}
	if got, want := dump(&h), "Host=b.example;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.Reset()
	if h.Len() != 0 || h.Has(Host) {
		t.Error("Reset left something")
	}
}

func TestHeaderAllocatesNothing(t *testing.T) {
	var h Header
	value := []byte("value")
	if n := testing.AllocsPerRun(100, func() {
		h.Reset()
		for range 20 {
			h.Add(XForwardedFor, value)
		}
		h.Del(XForwardedFor)
		h.AddString(Host, "x")
		_ = h.Get(Host)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
