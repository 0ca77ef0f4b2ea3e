package main

import (
	"bytes"
	"context"
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
)

// echo is a server that answers with what it received.
func echo(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Powered-By", name)
		w.Header().Set("X-Kept", "yes")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"server": name, "method": r.Method, "uri": r.RequestURI, "host": r.Host, "body": string(body),
			"app": r.Header.Get("X-App"), "encoding": r.Header.Get("Accept-Encoding"),
			"original": r.Header.Get("X-Original-URI"), "upgrade": r.Header.Get("Upgrade"),
		})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// alike is a configuration of nginx, with requests that mpgate must answer as nginx does.
type alike struct {
	name     string
	config   string // of the http block; SOCKET, ONE, TWO and ROOT are replaced
	requests []likeRequest
}

type likeRequest struct {
	line  string // method, host and path
	field string // a further field
}

var alikes = []alike{
	{"hosts", `
server { listen unix:SOCKET; server_name a.test; location / { proxy_pass http://ONE; proxy_set_header Host $host; } }
server { listen unix:SOCKET; server_name *.wild.test tail.*; location / { proxy_pass http://TWO; proxy_set_header Host $host; } }
server { listen unix:SOCKET default_server; server_name d.wild.test; location / { proxy_pass http://ONE/; proxy_set_header Host $host; proxy_set_header X-App default; } }
`, []likeRequest{
		{line: "GET a.test /"}, {line: "GET A.TEST /x?y=1"}, {line: "POST x.wild.test /p"}, {line: "GET tail.example.org /"},
		{line: "GET d.wild.test /d"}, {line: "GET unknown.test /q"},
	}},
	{"locations", `
server {
	listen unix:SOCKET; server_name a.test;
	proxy_set_header Host $host;
	location = /exact { proxy_pass http://TWO; }
	location / { proxy_pass http://ONE; }
	location /api/ { proxy_pass http://TWO; }
	location ^~ /api/fixed/ { proxy_pass http://ONE; }
	location ~ \.(css|js)$ { proxy_pass http://TWO; }
	location ~ ^/v[0-9]+/x$ { proxy_pass http://TWO; }
	location /strip/ { proxy_pass http://ONE/; }
	location /swap/ { proxy_pass http://ONE/other/; }
	location /old/ { rewrite ^/old/(.*)$ /new/$1 break; proxy_pass http://TWO; }
	location ~ /\.(?!well-known) { deny all; }
}
`, []likeRequest{
		{line: "GET a.test /exact"}, {line: "GET a.test /exact/x"}, {line: "GET a.test /api/x"}, {line: "GET a.test /api/x.js"},
		{line: "GET a.test /api/fixed/x.js"}, {line: "GET a.test /x.css"}, {line: "GET a.test /a/b.js?q=1"}, {line: "GET a.test /v12/x"},
		{line: "GET a.test /v12/y"}, {line: "GET a.test /strip/a/b?c=d"}, {line: "GET a.test /swap/x"},
		{line: "GET a.test /old/a/b"}, {line: "GET a.test /.git/config"},
		{line: "GET a.test /api/.env"}, {line: "GET a.test /.well-known/x"},
	}},
	{"answers", `
server {
	listen unix:SOCKET; server_name a.test;
	add_header X-Frame-Options DENY always;
	location / { proxy_pass http://ONE; proxy_set_header Host $host; proxy_hide_header X-Powered-By; }
	location /headers { proxy_pass http://ONE; proxy_set_header Host $host; proxy_set_header X-Original-URI $request_uri; proxy_set_header Accept-Encoding ""; add_header X-Own "v" always; }
	location = /moved { return 301 https://$host/there; }
	location /also/ { return 302 https://b.test$request_uri; }
	location = /text { default_type text/plain; return 200 "some text"; }
	location = /none { return 204; }
	location = /gone { return 410; }
	location = /favicon.ico { return 404; }
	location /read { limit_except GET { deny all; } proxy_pass http://ONE; proxy_set_header Host $host; }
	location /files/ { root ROOT; }
	location /assets/ { alias ROOT/files/; }
	location /spa/ { root ROOT; try_files $uri /spa/index.html; }
}
`, []likeRequest{
		{line: "GET a.test /x"}, {line: "GET a.test /headers?a=b", field: "Accept-Encoding: gzip"},
		{line: "GET a.test /moved"}, {line: "GET a.test /also/x?y=z"},
		{line: "GET a.test /text"}, {line: "GET a.test /none"},
		{line: "GET a.test /gone"}, {line: "GET a.test /favicon.ico"},
		{line: "GET a.test /read/x"}, {line: "POST a.test /read/x"},
		{line: "GET a.test /files/one.txt"}, {line: "GET a.test /files/none.txt"},
		{line: "GET a.test /assets/one.txt"}, {line: "HEAD a.test /assets/one.txt"},
		{line: "GET a.test /spa/any/where"},
	}},
}

// TestImportLikeNginx runs nginx and mpgate with the same configuration in front of the same
// servers, and compares their answers.
func TestImportLikeNginx(t *testing.T) {
	program := tool(t, "nginx")
	for _, one := range alikes {
		t.Run(one.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "mpgate-import") // a short path, for the sockets
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			likeFiles(t, dir)
			theirs, ours := filepath.Join(dir, "nginx.sock"), filepath.Join(dir, "mpgate.sock")
			text := strings.NewReplacer("SOCKET", theirs, "ONE", echo(t, "one"), "TWO", echo(t, "two"), "ROOT", dir).Replace(one.config)
			runNginx(t, program, dir, text)
			runImported(t, dir, theirs, ours)
			for _, r := range one.requests {
				want, got := likeAnswer(t, theirs, r), likeAnswer(t, ours, r)
				if want != got {
					t.Errorf("%s: nginx answers\n%s\nand mpgate\n%s", r.line, want, got)
				}
			}
		})
	}
}

func likeFiles(t *testing.T, dir string) {
	t.Helper()
	for name, text := range map[string]string{"files/one.txt": "one", "spa/index.html": "<p>index"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runNginx writes nginx.conf and runs nginx, which listens when the command returns.
func runNginx(t *testing.T, program, dir, http string) {
	t.Helper()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		http += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	text := fmt.Sprintf("%spid %s/nginx.pid;\nerror_log %s/error.log;\nevents {}\nhttp {\naccess_log off;\n%s}\n", user, dir, dir, http)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "-p", dir, "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(program, "-p", dir, "-c", file, "-s", "stop").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// runImported translates nginx.conf, and runs mpgate with the result on another socket.
func runImported(t *testing.T, dir, theirs, ours string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary, "import", "nginx", filepath.Join(dir, "nginx.conf"))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); stdout.Len() == 0 {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	text := strings.ReplaceAll(stdout.String(), theirs, ours)
	text = fmt.Sprintf("[admin]\naddress = %q\n", "unix:"+filepath.Join(dir, "admin.sock")) + text
	file := filepath.Join(dir, "mpgate.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "run", "-c", file)
	p.ready("socket")
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		p.exits(0)
	})
	if testing.Verbose() {
		t.Logf("%s\n%s", text, &stderr)
	}
}

// likeAnswer returns what of an answer must be the same.
func likeAnswer(t *testing.T, socket string, r likeRequest) string {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	words := strings.Fields(r.line)
	body := ""
	if words[0] == "POST" {
		body = "a body"
	}
	req, err := http.NewRequestWithContext(t.Context(), words[0], "http://"+words[1]+words[2], strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if name, value, ok := strings.Cut(r.field, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 300 { // each has its own text
		text = nil
	}
	return fmt.Sprintf("%d Location=%q X-Frame-Options=%q X-Powered-By=%q X-Kept=%q X-Own=%q %s", resp.StatusCode, resp.Header.Get("Location"),
		resp.Header.Values("X-Frame-Options"), resp.Header.Get("X-Powered-By"), resp.Header.Get("X-Kept"), resp.Header.Values("X-Own"), text)
}
