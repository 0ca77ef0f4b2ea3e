package certs

import (
	"encoding/base64"
	"testing"

	"mpgate/internal/acmetest"
)

func byUpdate(s *acmetest.DNS) *DNS {
	return &DNS{Server: s.Addr, KeyName: "mpgate-key", Key: acmetest.TSIGSecret, Resolvers: []string{s.Addr}}
}

func TestDNSNeedsTheRightTSIGKey(t *testing.T) {
	s := acmetest.NewDNS(t)
	m, _ := newManager(t, nil)
	d := byUpdate(s)
	d.Key = base64.StdEncoding.EncodeToString([]byte("another"))
	err := newDNSSolver(d, m).Present(t.Context(), testChallenge())
	if want := `adding temporary record for zone "example.test.": dns: bad authentication`; errText(err) != want && errText(err) != `adding temporary record for zone "example.test.": dns response error code "NOTAUTH" (9)` {
		t.Errorf("got %v, want %s", err, want)
	}
	if n := s.Refused(); n != 1 {
		t.Errorf("%d updates were refused, want 1", n)
	}
}
