package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// issuer serves keys.
type issuer struct {
	*httptest.Server
	asked atomic.Int64

	mu    sync.Mutex // guards serve
	serve http.HandlerFunc
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		serve := i.serve
		i.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answers(f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serve = f
}

func (i *issuer) has(text string) {
	i.answers(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
}

// fetching is a filter whose keys are fetched from the issuer.
func (i *issuer) fetching(t testing.TB, o KeyServer, log *said) *JWT {
	t.Helper()
	u, err := target.ParseURL(i.URL + "/keys?v=1")
	if err != nil {
		t.Fatal(err)
	}
	o.Backend, o.URL = pool(t, u.Address()), u
	ko := KeysOptions{Name: i.URL, Server: &o, Meter: telemetry.NewInstruments("test").AuthSource(i.URL)}
	if log != nil {
		ko.Log = log.logger()
	}
	keys, err := NewKeys(ko)
	if err != nil {
		t.Fatal(err)
	}
	running(t, keys.Run)
	j, err := NewJWT(JWTOptions{Keys: keys, Memory: NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// The first request waits for the keys, and an unknown key has newer ones fetched.
func TestKeysRotate(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	var head atomic.Value
	i.answers(func(w http.ResponseWriter, r *http.Request) {
		head.Store(r.Method + " " + r.RequestURI + " " + r.Host + " " + r.Header.Get("Accept"))
		fmt.Fprint(w, keySetText(t, map[string]any{"p256": k.p256}))
	})
	j := i.fetching(t, KeyServer{Refresh: time.Hour, Unknown: time.Nanosecond}, nil)
	token, other := withToken(sign(t, "ES256", k.p256, "p256", claimsFor(nil))), withToken(sign(t, "EdDSA", k.ed, "ed", claimsFor(nil)))
	if got := says(t, j, token); got != "" {
		t.Fatal(got)
	}
	if got, want := head.Load(), "GET /keys?v=1 "+strings.TrimPrefix(i.URL, "http://")+" application/jwk-set+json, application/json"; got != want {
		t.Errorf("it was asked %q, want %q", got, want)
	}
	if got := says(t, j, other); got != errUnknownKey.Error() {
		t.Fatal(got)
	}
	i.has(keySetText(t, map[string]any{"ed": k.ed}))
	if got := says(t, j, other); got != "" {
		t.Errorf("the new key: %s", got)
	}
	if got := says(t, j, token); got != errUnknownKey.Error() {
		t.Errorf("a key that is gone: %q", got)
	}
}

// Tokens with unknown keys do not make the gateway ask often.
func TestUnknownKeysAskSeldom(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	i.has(keySetText(t, map[string]any{"p256": k.p256}))
	j := i.fetching(t, KeyServer{Refresh: time.Hour, Unknown: time.Hour}, nil)
	for n := range 50 {
		if got := says(t, j, withToken(sign(t, "ES256", k.b, fmt.Sprint("unknown", n), claimsFor(nil)))); got != errUnknownKey.Error() {
			t.Fatal(got)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times, want once", n)
	}
}

// Without any keys every token is refused; with old ones they remain in use.
func TestIssuerFails(t *testing.T) {
	k := testKeys()
	good := keySetText(t, map[string]any{"p256": k.p256})
	token := withToken(sign(t, "ES256", k.p256, "p256", claimsFor(nil)))
	for name, serve := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); fmt.Fprint(w, good) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"no keys": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"no JSON": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"secrets": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, keySetText(t, map[string]any{"s": k.secret}))
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for range 4 * maxKeysFile / 1024 {
				fmt.Fprint(w, strings.Repeat(" ", 1024))
			}
		},
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, good)
		},
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, good)
		},
		"slow": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"silent": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			i.answers(serve)
			var log said
			o := KeyServer{Refresh: time.Millisecond, Retry: time.Millisecond, Unknown: time.Hour, Timeout: 300 * time.Millisecond}
			j := i.fetching(t, o, &log)
			r := newRequest(t, token)
			if !j.FilterRequest(r) || r.Answer.Status != 503 || r.Answer.End != telemetry.EndBackendConnect {
				t.Fatalf("without keys: %+v", r.Answer)
			}
			eventually(t, "the failure is logged", func() bool { return strings.Contains(log.String(), "requests with tokens are refused") })
			i.has(good)
			eventually(t, "the keys are there", func() bool { return j.keys.set.Load() != nil })
			i.answers(serve)
			before := i.asked.Load()
			eventually(t, "it is asked again", func() bool { return i.asked.Load() > before+2 })
			if got := says(t, j, token); got != "" {
				t.Errorf("with the last good keys: %q", got)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n > 2 {
				t.Errorf("%d errors are logged", n)
			}
		})
	}
}

// A server that refuses connections is a failure like others.
func TestIssuerIsDown(t *testing.T) {
	i := newIssuer(t)
	i.Close()
	j := i.fetching(t, KeyServer{}, nil)
	r := newRequest(t, withToken(sign(t, "ES256", testKeys().p256, "p256", claimsFor(nil))))
	if !j.FilterRequest(r) || r.Answer.Status != 503 {
		t.Errorf("%+v", r.Answer)
	}
}
