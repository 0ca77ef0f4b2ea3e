package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"

	"mpgate/config"
	"mpgate/proxy/filter/auth"
)

// userFile is an htpasswd file with one user.
func userFile(t *testing.T, path, user, password string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// status asks for a path with header fields, as pairs, and gives the status and the body.
func status(t *testing.T, address, path string, fields ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The three filters for authentication, from the configuration on: their servers, their files, and
// what a reload does with those.
func TestAuthenticationByConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	userFile(t, users, "alice", "secret")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var fetched atomic.Int64
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}})
	}))
	defer issuer.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	judge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "let me in" {
			w.WriteHeader(http.StatusForbidden)
		}
		w.Header().Set("Remote-User", "bob of "+r.URL.Path)
	}))
	defer judge.Close()

	route := func(name, more string) string {
		return routeTable(name, fmt.Sprintf("path = %q", "/"+name), "app") + more + "\n"
	}
	rest := route("basic", fmt.Sprintf("basic_auth = { users = %q }", users)) +
		route("token", fmt.Sprintf("jwt = { jwks = %q, ca = %q, audience = \"api\", claims = { X-User = \"sub\" } }", issuer.URL+"/keys", ca)) +
		route("url", fmt.Sprintf("forward_auth = { url = %q, copy = \"Remote-User\" }", judge.URL+"/verify")) +
		route("backend", "forward_auth = { backend = \"judge\", path = \"/other\", copy = \"Remote-User\" }") +
		backendTable("app", sees(t), "") + backendTable("judge", judge.URL, "")
	r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+rest, nil)
	web := r.address("web")
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign([]byte(fmt.Sprintf(`{"sub":"carol","aud":"api","exp":%d}`, time.Now().Add(time.Hour).Unix())))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	const alice = "Basic YWxpY2U6c2VjcmV0"
	check := func() {
		t.Helper()
		for _, tt := range []struct {
			path, credentials string
			status            int
			want              string
		}{
			{"/basic", alice, 200, "Authorization: " + alice},
			{"/basic", "", 401, "credentials are required"},
			{"/basic", "Basic YWxpY2U6eA==", 401, "the user or the password is wrong"},
			{"/token", "Bearer " + token, 200, "X-User: carol\r\n"},
			{"/token", "Bearer x", 401, "the token is malformed"},
			{"/url", "let me in", 200, "Remote-User: bob of /verify\r\n"},
			{"/url", "x", 403, "refused by the authentication server"},
			{"/backend", "let me in", 200, "Remote-User: bob of /other\r\n"},
			{"/backend", "", 403, "refused by the authentication server"},
		} {
			code, body := status(t, web, tt.path, "Authorization", tt.credentials, "Remote-User", "root", "X-User", "root")
			if code != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s with %q: %d %s; want %d, %q", tt.path, tt.credentials, code, body, tt.status, tt.want)
			}
			own := map[string]string{"/token": "X-User", "/url": "Remote-User", "/backend": "Remote-User"}[tt.path]
			if own != "" && strings.Contains(body, own+": root") {
				t.Errorf("%s with %q: %s", tt.path, tt.credentials, body)
			}
		}
	}
	check()
	// A reload keeps the keys and what was verified, and changes what it is asked to.
	r.swap(head + listenerTable("web", "127.0.0.1:0", "") + strings.ReplaceAll(rest, "/other", "/another"))
	if _, body := status(t, web, "/backend", "Authorization", "let me in"); !strings.Contains(body, "bob of /another") {
		t.Errorf("after a reload: %s", body)
	}
	r.swap(head + listenerTable("web", "127.0.0.1:0", "") + rest)
	check()
	if n := fetched.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times, want once", n)
	}
	// A file that cannot be used is a fault of a reload, and the users remain.
	if err := os.WriteFile(users, []byte("alice:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = r.Reload(t.Context())
	if err == nil || !strings.Contains(err.Error(), `route.basic.basic_auth.users: `+users+`: line 1: user "alice": a password that is not hashed is not supported`) {
		t.Errorf("reload: %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "plain") {
		t.Errorf("the fault quotes a secret: %v", err)
	}
	check()
	// Without the routes nothing of them is left.
	r.swap(head + listenerTable("web", "127.0.0.1:0", "") + app(t))
	if g := r.gen.Load(); len(g.sources) > 0 || len(g.meters) > 0 || len(g.backends) != 1 {
		t.Errorf("%d sources, %d meters, %d backends are left", len(g.sources), len(g.meters), len(g.backends))
	}
}

// The files of users and keys must be usable at a start, and CheckFiles says the same.
func TestAuthenticationFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := head + listenerTable("web", "127.0.0.1:0", "") + backendTable("app", "127.0.0.1:1", "") + routeTable("all", "", "app") +
		fmt.Sprintf("basic_auth = { users = %q }\njwt = { keys = %q }\n", dir+"/users", dir+"/keys") +
		routeTable("other", "path = \"/other\"", "app") + fmt.Sprintf("forward_auth = { url = \"https://a.example/\", ca = %q }\n", dir+"/ca.pem")
	path := filepath.Join(dir, "mpgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	faults := CheckFiles(cfg)
	want := []string{"route.all.basic_auth.users: ", "route.all.jwt.keys: ", "route.other.forward_auth.ca: "}
	for i, w := range want {
		if len(faults) != len(want) || !strings.Contains(faults[i].String(), w) || !strings.Contains(faults[i].String(), "no such file") {
			t.Fatalf("%v, want %q", faults, want)
		}
	}
	settings := new(LogSettings)
	settings.Set(&cfg.Log)
	_, err = Open(t.Context(), cfg, Options{Logger: NewLogger(settings, &logText{}), LogSettings: settings})
	for _, w := range want[:2] { // the third stops nothing that was built
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("start: %v, want %q", err, w)
		}
	}
	e, err := NewExplainer(cfg)
	if err != nil || e == nil {
		t.Errorf("explaining opens no file: %v", err)
	}
}

// What the configuration says of algorithms and header fields is what package auth says.
func TestAuthenticationIsDeclaredOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mpgate.toml")
	faults := func(jwt string) string {
		text := head + listenerTable("web", "127.0.0.1:0", "") + backendTable("app", "127.0.0.1:1", "") + routeTable("all", "", "app") +
			"jwt = { keys = \"k\", " + jwt + " }\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(path, config.Options{})
		return fmt.Sprint(err)
	}
	if got := faults(`algorithms = ["` + strings.Join(auth.Algorithms, `", "`) + `"]`); got != "<nil>" {
		t.Error(got)
	}
	if got := faults(`algorithms = ["x"]`); strings.Count(got, `"`) != 2+2*len(auth.Algorithms) {
		t.Errorf("it has other algorithms than %q: %s", auth.Algorithms, got)
	}
	for _, name := range []string{
		"X-User", "Authorization", "Cookie", "X-Forwarded-User", "Remote-User", "Connection", "Content-Length", "Content-Encoding", "Content-Type", "Content-Range",
		"Date", "Expect", "Forwarded", "Host", "HTTP2-Settings", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding",
		"Upgrade", "Via", "CDN-Loop", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "X-Request-ID", "Max-Forwards", "Range",
		"X-Forwarded-Method", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Uri",
		"X_User", "X.User", "X User", "",
	} {
		got := faults(fmt.Sprintf("from = \"cookie.t\", claims = { %q = \"sub\" }", name))
		if ok := auth.CheckField(name) == nil; ok != (got == "<nil>") {
			t.Errorf("%q: package auth says %v, the configuration %s", name, auth.CheckField(name), got)
		}
	}
}
