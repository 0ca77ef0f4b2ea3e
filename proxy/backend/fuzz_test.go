package backend

import (
	"strings"
	"testing"
)

// What names a scheme that authenticates connections is found wherever it stands in a list, and in
// any case.
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
