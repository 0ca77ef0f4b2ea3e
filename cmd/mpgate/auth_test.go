package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authServer admits requests with a cookie, and echoes the path that it was told.
func authServer(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "" {
			http.Redirect(w, r, "https://login.example.org/", http.StatusFound)
			return
		}
		w.Header().Set("Remote-User", "alice at "+r.Header.Get("X-Forwarded-Uri"))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// headed is a server that answers with its name and some fields of the request.
func headed(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s user=%q remote=%q", name, r.Header.Get("X-User"), r.Header.Get("Remote-User"))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// runAuth asks for each of the sites, without credentials and with them.
func runAuth(t *testing.T) {
	dir := t.TempDir()
	hash := exec.Command(binary, "hash-password")
	hash.Stdin = strings.NewReader("secret\n")
	out, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"htpasswd": append([]byte("alice:"), out...), "issuer.json": keys} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(fmt.Appendf(nil, `{"iss":"https://issuer.example.org","aud":"api","sub":"bob","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "run", "-c", example(t, "auth.toml",
		`":8080"`, `"127.0.0.1:0"`, "/etc/mpgate", dir, "127.0.0.1:9000", headed(t, "site"), "127.0.0.1:9001", headed(t, "api"),
		"127.0.0.1:9002", headed(t, "wiki"), "127.0.0.1:9091", authServer(t)))
	web := p.ready("web")[0]
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		url, name, value string
		status           int
		want             string
	}{
		{"example.org/", "", "", 200, `site user="root"`},
		{"example.org/private/", "", "", 401, "credentials are required"},
		{"example.org/private/x", "Authorization", "Basic YWxpY2U6c2VjcmV0", 200, "site"},
		{"example.org/x/../private/", "", "", 401, "credentials are required"},
		{"api.example.org/", "Authorization", "Basic YWxpY2U6c2VjcmV0", 401, "credentials are required"},
		{"api.example.org/", "Authorization", "Bearer " + token, 200, `api user="bob"`},
		{"wiki.example.org/page", "", "", 302, ""},
		{"wiki.example.org/page?a", "Cookie", "session=1", 200, `remote="alice at /page?a"`},
	} {
		host, path, _ := strings.Cut(tt.url, "/")
		r, err := http.NewRequest("GET", "http://"+web+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = "/" + path // as it is
		r.Host = host
		r.Header.Set("X-User", "root")
		r.Header.Set("Remote-User", "root")
		if tt.name != "" {
			r.Header.Set(tt.name, tt.value)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %q", tt.url, resp.StatusCode, body, tt.status, tt.want)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// authPages are the pages of docs/filters whose commands need files and servers.
var authPages = []string{"basic_auth", "jwt", "forward_auth"}

// TestAuthPages runs what the pages of the filters for authentication show: the configuration is a
// file, and the commands run in order beside it.
func TestAuthPages(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	for _, page := range authPages {
		t.Run(page, func(t *testing.T) {
			tool(t, "curl")
			tool(t, "openssl")
			dir := t.TempDir()
			var p *process
			web, commands := "", 0
			for _, b := range blocks(t, "../../docs/filters/"+page+".md") {
				if b.kind == "toml" {
					text := strings.NewReplacer(`"127.0.0.1:8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", headed(t, "app"), "127.0.0.1:9091", authServer(t)).Replace(b.text)
					text += "[admin]\naddress = \"unix:admin.sock\"\n"
					if err := os.WriteFile(filepath.Join(dir, "mpgate.toml"), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					continue
				}
				for line := range strings.Lines(b.text) {
					commands++
					if strings.HasPrefix(line, "mpgate run") {
						p = start(t, func(c *exec.Cmd) { c.Dir = dir }, "run", "-c", "mpgate.toml")
						web = p.ready("web")[0]
						continue
					}
					cmd := exec.Command("bash", "-eo", "pipefail", "-c", strings.ReplaceAll(line, "127.0.0.1:8080", web))
					cmd.Dir = dir
					cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
					out, err := cmd.CombinedOutput()
					if err != nil {
						t.Errorf("%s: %v\n%s", line, err, out)
					}
					if _, _, err := net.SplitHostPort(web); err == nil && strings.Contains(line, "-i") {
						refused(t, page, string(out))
					}
				}
			}
			if p == nil || commands < 4 {
				t.Fatalf("the page has %d commands, and starts a gateway: %v", commands, p != nil)
			}
			p.signal(syscall.SIGTERM)
			p.exits(0)
		})
	}
}

// refused looks at the answer to a request without valid credentials.
func refused(t *testing.T, page, out string) {
	t.Helper()
	want := map[string]string{
		"basic_auth": `WWW-Authenticate: Basic realm="Private"`, "jwt": "WWW-Authenticate: Bearer", "forward_auth": "Location: https://login.example.org/",
	}[page]
	if !strings.Contains(out, want) {
		t.Errorf("the answer lacks %q:\n%s", want, out)
	}
}

// readAll is the body of an answer.
func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
