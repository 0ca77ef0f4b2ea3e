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

func TestDeletedFieldsStayDeleted(t *testing.T) {
	var h Header
	h.Add(Via, []byte("1"))
	h.AddName([]byte("X-A"), []byte("2"))
	h.DelAt(0)
	h.DelAt(1)
	if h.Len() != 2 || h.Has(Via) || h.Get(Via) != nil || h.Index(Via, 0) >= 0 || h.DelName([]byte("x-a")) != 0 || dump(&h) != "" {
		t.Errorf("got %q", dump(&h))
	}
	h.Add(Via, []byte("3"))
	h.Add(Via, []byte("4"))
	if i := h.Index(Via, h.Index(Via, 0)+1); i != 3 || string(h.Get(Via)) != "3" {
		t.Errorf("the second is at %d, the first is %q", i, h.Get(Via))
	}
	if n := h.DelName([]byte("VIA")); n != 2 || h.Has(Via) {
		t.Errorf("DelName took %d off, want 2", n)
	}
}

func TestGrabbedFieldsSurviveGrowth(t *testing.T) {
	var h Header
	head := h.Copy([]byte("Name: value"))
	h.AddSpan(Other, 0, 4, 6, 5)
	for range 100 {
		h.AddName([]byte("X"), bytes.Repeat([]byte("y"), 100))
	}
	if _, name, value, ok := h.At(0); string(name) != "Name" || string(value) != "value" || !ok || string(head) != "Name: value" {
		t.Errorf("got %q: %q, %v", name, value, ok)
	}
	_, name, _, _ := h.At(0)
	_ = append(name, 'x') // what is handed out cannot be grown into its neighbour
	if string(h.buf[:11]) != "Name: value" {
		t.Errorf("the buffer is %q", h.buf[:11])
	}
}

func TestCleanTrailer(t *testing.T) {
	var h Header
	for _, name := range []string{"Grpc-Status", "transfer-encoding", "X-Sum", "HOST", "range", "If-None-Match", "Set-Cookie", "x-forwarded-for",
		"Server-Timing", "Content-Length"} {
		h.AddName([]byte(name), []byte("1"))
	}
	CleanTrailer(&h)
	if got, want := dump(&h), "Grpc-Status=1;X-Sum=1;Server-Timing=1;"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResetKeepsNothing(t *testing.T) {
	r := Request{Version: HTTP11, Method: []byte("HEAD"), Host: []byte("x"), HasQuery: true, EncodedSlash: true, ContentLength: 3,
		Close: true, Expect: true, TrailersOK: true, Upgrade: []byte("u"), Scratch: []byte("s")}
	r.Header.Add(Via, nil)
	r.Trailer.Add(Via, nil)
	if !r.IsHead() {
		t.Error("HEAD is not HEAD")
	}
	r.Reset()
	if r.Version != 0 || r.Method != nil || r.Host != nil || r.HasQuery || r.EncodedSlash || r.ContentLength != 0 || r.Close || r.Expect ||
		r.TrailersOK || r.Upgrade != nil || len(r.Scratch) != 0 || cap(r.Scratch) == 0 || r.Header.Len()+r.Trailer.Len() != 0 {
		t.Errorf("left: %+v", r)
	}
	p := Response{Version: HTTP11, Status: 101, Reason: []byte("x"), ContentLength: 3, Close: true, Upgrade: []byte("u"), UntilClose: true, NoBody: true}
	p.Header.Add(Via, nil)
	p.Trailer.Add(Via, nil)
	p.Reset()
	if p.Version != 0 || p.Status != 0 || p.Reason != nil || p.ContentLength != 0 || p.Close || p.Upgrade != nil || p.UntilClose || p.NoBody ||
		p.Header.Len()+p.Trailer.Len() != 0 {
		t.Errorf("left: %+v", p)
	}
}

func TestIdempotent(t *testing.T) {
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "PUT": true, "DELETE": true, "OPTIONS": true, "TRACE": true,
		"POST": false, "PATCH": false, "get": false, "": false} {
		if r := (Request{Method: []byte(method)}); r.Idempotent() != want {
			t.Errorf("%q: %v", method, r.Idempotent())
		}
	}
}

func TestInterim(t *testing.T) {
	for status, want := range map[int]bool{100: true, 101: false, 103: true, 199: true, 200: false, 204: false} {
		if r := (Response{Status: status}); r.Interim() != want {
			t.Errorf("%d: %v", status, r.Interim())
		}
	}
}

func TestTexts(t *testing.T) {
	if got := HTTP10.String() + HTTP11.String() + HTTP20.String() + Version(0).String(); got != "HTTP/1.0HTTP/1.1HTTP/2.0" {
		t.Errorf("versions are %q", got)
	}
	if StatusText(404) != "Not Found" || StatusText(599) != "Status" {
		t.Errorf("texts are %q, %q", StatusText(404), StatusText(599))
	}
	if Other.String() != "" || deleted.String() != "" {
		t.Error("an ID without a name has one")
	}
}
