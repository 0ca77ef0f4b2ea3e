package main

import (
	"testing"
	"time"

	"mpgate/admin"
)

func TestCertificateNote(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		certificate admin.Certificate
		want        string
	}{
		{admin.Certificate{NotAfter: now.Add(time.Minute)}, ""},
		{admin.Certificate{NotAfter: now.Add(-time.Minute)}, "expired"},
		{admin.Certificate{NotAfter: now.Add(-time.Minute), Error: "no such file"}, "expired, no such file"},
		{admin.Certificate{Error: "not obtained yet"}, "not obtained yet"},
	} {
		if got := certificateNote(&c.certificate, now); got != c.want {
			t.Errorf("%+v: %q, want %q", c.certificate, got, c.want)
		}
	}
}
