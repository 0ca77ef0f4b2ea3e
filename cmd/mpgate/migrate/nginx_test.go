package migrate

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mpgate/config"
)

var update = flag.Bool("update", false, "write the golden files of testdata/nginx anew")

// accepted loads a translation as mpgate check does.
func accepted(t testing.TB, text []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mpgate.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(file, config.Options{Check: true}); err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
}

func configurations(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/nginx/*.conf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d configurations: %v", len(files), err)
	}
	return files
}

var inTest = Options{Prefix: "/etc/nginx", Source: own{}}

// TestTranslate translates configurations as they are in use, and compares the result with
// NAME.toml and the messages with NAME.txt. What settle takes out is still in it.
func TestTranslate(t *testing.T) {
	for _, file := range configurations(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			tr, err := translate([]string{file}, inTest)
			if err != nil {
				t.Fatal(err)
			}
			tr.prune()
			var messages strings.Builder
			for _, m := range tr.sorted(tr.order) {
				messages.WriteString(strings.TrimPrefix(m.String(), "testdata/nginx/") + "\n")
			}
			golden(t, strings.TrimSuffix(file, ".conf")+".toml", string(tr.text()))
			golden(t, strings.TrimSuffix(file, ".conf")+".txt", messages.String())
		})
	}
}

// TestNginx: whatever is made of a configuration is accepted, and what is unprotected is said.
func TestNginx(t *testing.T) {
	for _, file := range configurations(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := Nginx([]string{file}, inTest)
			if err != nil {
				t.Fatal(err)
			}
			accepted(t, r.File)
			alarms := 0
			for _, m := range r.Messages {
				if strings.HasPrefix(m.Text, "NOT PROTECTED") {
					alarms++
				}
				if strings.Contains(m.Text, "is not a known key") || strings.Contains(m.Text, "is not a key of") {
					t.Errorf("it writes a key that mpgate does not have: %s", m)
				}
			}
			if r.Unprotected != (alarms > 0) {
				t.Errorf("Unprotected is %v with %d alarms", r.Unprotected, alarms)
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nand the translation\n%s", file, want, got)
	}
}

// own is a file system with nothing but the file itself: what /etc/nginx of the machine has does
// not count.
type own struct{}

func (own) Read(name string, limit int) ([]byte, error) {
	if !strings.HasPrefix(name, "testdata/") {
		return nil, os.ErrNotExist
	}
	return os.ReadFile(name)
}

func (own) Glob(string) ([]string, error) { return nil, nil }

// memory is a file system of one file.
type memory string

func (m memory) Read(name string, limit int) ([]byte, error) {
	if name != "nginx.conf" {
		return nil, os.ErrNotExist
	}
	return []byte(m), nil
}

func (memory) Glob(string) ([]string, error) { return nil, nil }

// FuzzNginx: no configuration makes the translator panic, and whatever it makes is accepted.
func FuzzNginx(f *testing.F) {
	for _, file := range configurations(f) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, line := range []string{
		`server_name "a b" ~^x*.y$ *.*.z .; return 301 $scheme://$`, `location ~ ( { deny all; }`, `location = / { proxy_pass http://:/; }`,
		`location /a* { return 200 "${x"; }`, `add_header "a b" "\r\n{x}"; error_page 999999999999 = /x;`, `listen [::1]; listen :; listen 99999;`,
		`location /%00/../x { return 444; }`, `if ( = ) { return; } return;`,
	} {
		f.Add("server { " + line + " }")
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Nginx([]string{"nginx.conf"}, Options{Prefix: "/etc/nginx", Source: memory(text)})
		if err != nil {
			return
		}
		accepted(t, r.File)
	})
}
