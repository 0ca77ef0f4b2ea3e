package abuse

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// victim is net/http's server, with HTTP/1.1 and HTTP/2 over TLS.
func victim(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		_, _ = w.Write(make([]byte, 1024))
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Every attack does what it says until its time is up, and not longer; what it counts adds up.
func TestAttacks(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) }) // after the victim's end
	to := victim(t)
	for _, a := range Attacks() {
		t.Run(a.Name, func(t *testing.T) {
			begin := time.Now()
			o, err := Run(t.Context(), Job{Attack: a.Name, Address: to, Duration: 500 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			var ended int64
			for how, n := range o.Ends {
				ended += n
				if how == "" || strings.Contains(how, "\n") {
					t.Errorf("ended by %q", how)
				}
			}
			if o.Opened == 0 || o.Opened > int64(a.Most) || ended != o.Opened || o.Sent == 0 || o.Bytes == 0 || o.CPU <= 0 {
				t.Errorf("%+v", o)
			}
			t.Logf("%d connections, %d sent, %d resets, %d answers: %v", o.Opened, o.Sent, o.Resets, o.Answers, o.Ends)
		})
	}
}

// net/http is known to end these, and how.
func TestEndsAreTold(t *testing.T) {
	for attack, want := range map[string]string{
		"endless-head": "status 431",
		"header-list":  "GOAWAY",
	} {
		o, err := Run(t.Context(), Job{Attack: attack, Address: victim(t), Duration: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for how := range o.Ends {
			found = found || strings.HasPrefix(how, want)
		}
		if !found {
			t.Errorf("%s: ended by %v, want %s", attack, o.Ends, want)
		}
	}
}

func TestNoOtherHost(t *testing.T) {
	for want, j := range map[string]Job{
		`address (got "192.0.2.1:443"); want one of the loopback, with its port`: {Attack: "ping", Address: "192.0.2.1:443", Duration: time.Second},
		`address (got "localhost"); want one of the loopback, with its port`:     {Attack: "ping", Address: "localhost", Duration: time.Second},
		`duration (got 1h0m0s); want at most 2m0s`:                               {Attack: "ping", Address: "127.0.0.1:1", Duration: time.Hour},
	} {
		if _, err := Run(t.Context(), j); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if _, err := Find([]string{"poison"}); err == nil || !strings.HasPrefix(err.Error(), `attack (got "poison"); want rapid-reset, `) {
		t.Errorf("%v", err)
	}
}
