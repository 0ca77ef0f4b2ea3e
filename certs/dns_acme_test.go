package certs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"mpgate/internal/acmetest"
)

func TestACMEDNS01ByUpdate(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: 2 * shortLife})
	a := p.acme(DNS01, "example.test", "*.example.test")
	a.DNS = byUpdate(p.DNS)
	obtainAndRenew(t, p, a, "example.test", "x.example.test")
	checkRecords(t, p, "_acme-challenge.example.test.")
}

func checkRecords(t *testing.T, p *pebbleCA, name string) {
	t.Helper()
	_, updates := p.DNS.Left()
	present, cleanup := 0, 0
	for _, u := range updates {
		switch u {
		case "present " + name:
			present++
		case "cleanup " + name:
			cleanup++
		default:
			t.Errorf("the server was told %q", u)
		}
	}
	// One may be under way.
	if present < 2 || cleanup < present-2 {
		t.Errorf("%d records made, %d taken away", present, cleanup)
	}
}

// The program and the webhook both lead to the DNS server by this address.
func (p *pebbleCA) recordAPI(t *testing.T, seen func(*http.Request, record)) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rec record
		if err := json.NewDecoder(r.Body).Decode(&rec); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		seen(r, rec)
		p.DNS.Set(rec.Action, rec.Name+".", rec.Value)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestACMEDNS01ByWebhook(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: shortLife})
	url := p.recordAPI(t, func(r *http.Request, rec record) {
		if r.Header.Get("Authorization") != "Bearer t0ken" || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || rec.Domain != "a.example.test" {
			t.Errorf("got %s %v %+v", r.Method, r.Header, rec)
		}
	})
	a := p.acme(DNS01, "a.example.test")
	a.DNS = &DNS{Webhook: url, WebhookToken: "t0ken", Resolvers: []string{p.DNS.Addr}}
	obtainAndRenew(t, p, a, "a.example.test")
	checkRecords(t, p, "_acme-challenge.a.example.test.")
}

// TestMain's binary is the program, too: see execHelper.
func TestACMEDNS01ByProgram(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{validity: shortLife})
	url := p.recordAPI(t, func(*http.Request, record) {})
	a := p.acme(DNS01, "*.example.test")
	a.DNS = &DNS{Exec: []string{helperProgram(t), url}}
	obtainAndRenew(t, p, a, "x.example.test")
	checkRecords(t, p, "_acme-challenge.example.test.")
}

func helperProgram(t *testing.T) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "solver")
	text := "#!/bin/sh\nMPGATE_TEST_SOLVER=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

// execHelper is what a solver program does: URL ACTION NAME VALUE.
func execHelper() int {
	args := os.Args[1:]
	if len(args) != 4 || args[1] != os.Getenv("ACME_ACTION") || args[2] != os.Getenv("ACME_NAME") || args[3] != os.Getenv("ACME_VALUE") {
		fmt.Fprintf(os.Stderr, "arguments %q do not fit the environment", args)
		return 2
	}
	body, _ := json.Marshal(record{args[1], os.Getenv("ACME_DOMAIN"), args[2], args[3]})
	resp, err := http.Post(args[0], "application/json", strings.NewReader(string(body)))
	if err != nil || resp.StatusCode != 200 {
		fmt.Fprint(os.Stderr, "the API said no: ", err)
		return 1
	}
	return 0
}

func testChallenge() acme.Challenge {
	return acme.Challenge{Type: acme.ChallengeTypeDNS01, Token: "t", KeyAuthorization: "t.k", Identifier: acme.Identifier{Type: "dns", Value: "a.example.test"}}
}

func TestSolverErrors(t *testing.T) {
	m, _ := newManager(t, nil)
	script := filepath.Join(t.TempDir(), "fail")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no such zone >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	no := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "quota exceeded", http.StatusForbidden)
	}))
	defer no.Close()
	for _, c := range []struct {
		d    DNS
		want string
	}{
		{DNS{Exec: []string{script}}, script + " present _acme-challenge.a.example.test: exit status 3: no such zone"},
		{DNS{Webhook: no.URL}, "webhook present _acme-challenge.a.example.test: 403 Forbidden: quota exceeded"},
	} {
		if err := newDNSSolver(&c.d, m).Present(t.Context(), testChallenge()); errText(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	// A program that hangs ends with the attempt.
	hang := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(hang, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := newDNSSolver(&DNS{Exec: []string{hang}}, m).Present(ctx, testChallenge())
	if want := hang + " present _acme-challenge.a.example.test: context deadline exceeded"; errText(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// A record that no resolver gets to know.
	s := acmetest.NewDNS(t)
	w := newDNSSolver(&DNS{Exec: []string{"true"}, Resolvers: []string{s.Addr}, Timeout: 20 * time.Millisecond}, m).(interface {
		Wait(context.Context, acme.Challenge) error
	})
	err = w.Wait(t.Context(), testChallenge())
	if err == nil || !strings.HasPrefix(err.Error(), "TXT record _acme-challenge.a.example.test is not visible at "+s.Addr+": ") {
		t.Errorf("got %v", err)
	}
}
