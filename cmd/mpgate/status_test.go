package main

import (
	"net/http"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"mpgate/admin"
	"mpgate/internal/proxytest"
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

// TestServerDown: the log and the status say which server is down, and why; and the log when it is
// back.
func TestServerDown(t *testing.T) {
	server := proxytest.NewRefusing(t)
	file := write(t, "mpgate.toml", plainConfig(server.Address))
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	if a := <-get("http://" + web + "/"); a.err != nil || a.resp.StatusCode != 502 {
		t.Fatalf("answer %+v, want 502", a)
	}
	p.line(`"level":"WARN","msg":"server is down","backend":"app","server":"` + server.Address + `","err":"[^"]*connection refused"`)
	out, err := exec.Command(binary, "status", "-c", file).Output()
	if err != nil || !regexp.MustCompile(`app +`+server.Address+` +down .*could not be reached: .*connection refused`).Match(out) {
		t.Errorf("status does not say why it is down: %v\n%s", err, out)
	}
	l := server.Listen()
	s := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	p.line(`"level":"INFO","msg":"server is back","backend":"app","server":"` + server.Address + `","after":"[0-9.]+s"`)
}
