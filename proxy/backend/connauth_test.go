package backend

import (
	"strings"
	"testing"

	"mpgate/proxy/message"
)

func header(fields ...string) *message.Header {
	h := &message.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.AddName([]byte(fields[i]), []byte(fields[i+1]))
	}
	return h
}

func TestAuthenticates(t *testing.T) {
	for _, c := range []struct {
		h                             *message.Header
		request, challenge, persisted bool
	}{
		{h: header()},
		{h: header("Authorization", "Basic dXNlcjpwYXNz")},
		{h: header("Authorization", "Bearer ntlm.negotiate")},
		{h: header("X-Authorization", "NTLM x")},
		{h: header("Authorization", "NTLM TlRMTVNTUAABAAAA"), request: true},
		{h: header("authorization", "ntlm TlRMTVNTUAABAAAA"), request: true},
		{h: header("Authorization", "negotiate\tYII"), request: true},
		{h: header("Authorization", "Nego2 YII"), request: true},
		{h: header("Authorization", "Kerberos YII"), request: true},
		{h: header("Authorization", "Basic dXNlcjpwYXNz", "Authorization", "NTLM x"), request: true},
		{h: header("Authorization", "Basic dXNlcjpwYXNz, NTLM x"), request: true},
		{h: header("Proxy-Authorization", "Negotiate x"), request: true},
		{h: header("WWW-Authenticate", `Basic realm="ntlm"`)},
		{h: header("WWW-Authenticate", "NTLM"), challenge: true},
		{h: header("WWW-Authenticate", `Basic realm="x", Negotiate`), challenge: true},
		{h: header("WWW-Authenticate", `Basic realm="x"`, "WWW-Authenticate", "Negotiate oYG2"), challenge: true},
		{h: header("Proxy-Authenticate", " ,,\tNTLM"), challenge: true},
		{h: header("Persistent-Auth", "true"), persisted: true},
		{h: header("Persistent-Auth", "false")},
		{h: header("Persistent-Auth", "FALSE", "persistent-auth", "True"), persisted: true},
	} {
		if got := Authenticates(c.h); got != c.request {
			t.Errorf("%v: of a request: %v", c.h, got)
		}
		if got := isChallenge(c.h); got != c.challenge {
			t.Errorf("%v: of a challenge: %v", c.h, got)
		}
		if got := declaresAuthenticated(c.h); got != c.persisted {
			t.Errorf("%v: persists: %v", c.h, got)
		}
	}
}

// A scheme that authenticates connections is found anywhere in a list, in upper and lower case.
func FuzzAuthenticates(f *testing.F) {
	f.Add("Basic a", "NTLM x")
	f.Add(` ,,"`, "\tnegotiate")
	f.Fuzz(func(t *testing.T, one, two string) {
		got := Authenticates(header("Authorization", one+","+two))
		want := false
		for e := range strings.SplitSeq(strings.ToLower(one+","+two), ",") {
			e = strings.TrimLeft(e, " \t")
			want = want || strings.HasPrefix(e, "ntlm") || strings.HasPrefix(e, "nego") || strings.HasPrefix(e, "kerberos")
		}
		if got != want {
			t.Errorf("%q, %q: %v", one, two, got)
		}
		if split := Authenticates(header("authorization", one, "Authorization", two)); split != got {
			t.Errorf("%q, %q: %v as two fields", one, two, split)
		}
	})
}
