package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckAndRunAgree gives both commands the same faulty files: each fault that check finds stops
// run with the exit code 78 and the same line, and no fault is found by run alone.
func TestCheckAndRunAgree(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("a", "a.example")
	ca.issue("b", "b.example")
	dir := ca.dir
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	const web = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n"
	const app = "[[route]]\nname = \"all\"\nbackend = \"app\"\n[[backend]]\nname = \"app\"\nservers = [ { address = \"127.0.0.1:1\" } ]\n"
	pair := func(cert, key string) string {
		return fmt.Sprintf("[listener.tls]\ncertificates = [ { cert = %q, key = %q } ]\n", cert, key)
	}
	for name, toml := range map[string]string{
		"certificate is missing":     web + pair(dir+"/gone.pem", dir+"/a.key") + app,
		"key is missing":             web + pair(dir+"/a.pem", dir+"/gone.key") + app,
		"key of another certificate": web + pair(dir+"/a.pem", dir+"/b.key") + app,
		"certificate is text":        web + pair(text, dir+"/a.key") + app,
		"CA of clients": web + pair(dir+"/a.pem", dir+"/a.key") +
			fmt.Sprintf("client_auth = \"require\"\nclient_ca = %q\n", text) + app,
		"CA of servers":          web + app + fmt.Sprintf("tls = { ca = %q }\n", text),
		"directory of the log":   fmt.Sprintf("[log]\naccess = %q\n", dir+"/gone/log") + web + app,
		"directory of a socket":  strings.Replace(web, "127.0.0.1:0", "unix:"+dir+"/gone/web.sock", 1) + app,
		"file for a socket":      strings.Replace(web, "127.0.0.1:0", "unix:"+text, 1) + app,
		"file for the state":     fmt.Sprintf("state_dir = %q\n", text) + web + "tls = { local = true }\n" + app,
		"file of an answer":      web + strings.Replace(app, "backend = \"app\"", fmt.Sprintf("answer = { status = 503, file = %q }", dir+"/gone.html"), 1),
		"file of an error page":  web + strings.Replace(app, "[[backend]]", fmt.Sprintf("error_pages = { \"502\" = %q }\n[[backend]]", dir+"/gone.html"), 1),
		"name to listen on":      strings.Replace(web, "127.0.0.1:0", "nosuch.invalid:8080", 1) + app,
		"several at once":        web + pair(dir+"/gone.pem", dir+"/a.key") + app + fmt.Sprintf("tls = { ca = %q }\n", text),
		"of the file itself":     strings.Replace(web, "address", "adress", 1) + app,
		"TCP without its route":  web + "protocols = [\"tcp\"]\n" + app,
		"file that is not there": "include = [\"gone.toml\"]\n" + web + app,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "mpgate.toml")
			if !strings.Contains(toml, "state_dir") {
				toml = "state_dir = \"state\"\n" + toml
			}
			toml += "[admin]\naddress = \"off\"\n"
			if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
				t.Fatal(err)
			}
			checked, run := faultsOf(t, "check", file), faultsOf(t, "run", file)
			if checked == "" || checked != run {
				t.Errorf("check says\n%srun says\n%s", checked, run)
			}
		})
	}
}

// faultsOf returns what a command says on standard error, without warnings. It must end with 78.
func faultsOf(t *testing.T, command, file string) string {
	t.Helper()
	cmd := exec.Command(binary, command, "-c", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitConfig {
		t.Errorf("%s: %v, want the exit code %d", command, err, exitConfig)
	}
	var out strings.Builder
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "warning: ") {
			out.WriteString(line)
		}
	}
	return out.String()
}
