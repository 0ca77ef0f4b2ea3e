package filter_test

import (
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
)

func TestCookies(t *testing.T) {
	all := filter.CookiesOptions{Secure: true, HTTPOnly: true, SameSite: "Lax"}
	for _, tt := range []struct {
		options filter.CookiesOptions
		in, out string
	}{
		{all, "a=1", "a=1; Secure; HttpOnly; SameSite=Lax"},
		{all, "a=1; Path=/; secure;httponly; Max-Age=5", "a=1; Path=/; secure;httponly; Max-Age=5; SameSite=Lax"},
		{all, "a=1; samesite=None; Secure", "a=1; Secure; HttpOnly; SameSite=Lax"},
		{all, "a=1; SameSite; SameSite = Strict", "a=1; Secure; HttpOnly; SameSite=Lax"},
		{all, "Secure=1", "Secure=1; Secure; HttpOnly; SameSite=Lax"}, // the name of a cookie
		{all, "Secure; a=HttpOnly", "Secure; a=HttpOnly; Secure; HttpOnly; SameSite=Lax"},
		{all, "", "; Secure; HttpOnly; SameSite=Lax"},
		{all, "srv=own; Path=/", "srv=own; Path=/"},
		{filter.CookiesOptions{SameSite: "Strict"}, "a=1; SameSite=Strict", "a=1; SameSite=Strict"},
		{filter.CookiesOptions{Secure: true}, "a=1; SameSite=None", "a=1; SameSite=None; Secure"},
		{filter.CookiesOptions{HTTPOnly: true}, "a=1; HTTPONLY", "a=1; HTTPONLY"},
	} {
		chain := filter.Compile(filter.NewCookies(tt.options))
		r := requestFor("/")
		r.OwnCookie = []byte("srv=own; Path=/")
		var resp message.Response
		header(&resp.Header, "X-A: 1", "Set-Cookie: "+tt.in, "Set-Cookie: "+tt.in)
		chain.Response(r, &resp)
		if got, want := lines(&resp.Header), "X-A: 1\nSet-Cookie: "+tt.out+"\nSet-Cookie: "+tt.out; got != want {
			t.Errorf("%q becomes %q, want %q", tt.in, got, want)
		}
	}
}

func TestCookiesAllocateNothing(t *testing.T) {
	chain := filter.Compile(filter.NewCookies(filter.CookiesOptions{Secure: true, SameSite: "Lax"}))
	r := requestFor("/")
	var resp message.Response
	if n := testing.AllocsPerRun(100, func() {
		resp.Header.Reset()
		resp.Header.AddString(message.SetCookie, "a=1; Path=/")
		chain.Response(r, &resp)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
