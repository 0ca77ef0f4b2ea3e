package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mpgate/config"
)

// TestMigratePage holds docs/migrate.md to what mpgate takes: every configuration of mpgate is
// checked, every one of nginx is translated, and the commands are run.
func TestMigratePage(t *testing.T) {
	kinds := map[string]int{}
	for i, b := range blocks(t, "../../docs/migrate.md") {
		kinds[b.kind]++
		name := fmt.Sprintf("%s %d", b.kind, i)
		switch b.kind {
		case "toml":
			t.Run(name, func(t *testing.T) { completeTOML(t, b.text) })
		case "nginx":
			t.Run(name, func(t *testing.T) { migrateNginx(t, b.text) })
		case "sh":
			t.Run(name, func(t *testing.T) { migrateCommands(t, b.text) })
		case "haproxy", "caddy", "yaml":
		default:
			t.Errorf("a block of the kind %q, which nothing here knows", b.kind)
		}
	}
	if kinds["toml"] < 20 || kinds["nginx"] < 15 || kinds["sh"] != 1 {
		t.Errorf("the page has %v", kinds)
	}
}

// completeTOML checks one configuration of mpgate. What a part leaves out is added.
func completeTOML(t *testing.T, text string) {
	for _, part := range []struct{ header, text string }{
		{"[[listener]]", "[[listener]]\nname = \"secure\"\naddress = \":443\"\n"},
		{"[[route]]", "[[route]]\nname = \"all\"\nbackend = \"app\"\n"},
		{"[[backend]]", "[[backend]]\nname = \"app\"\nservers = [ { address = \"127.0.0.1:9000\" } ]\n"},
	} {
		if !strings.Contains(text, part.header) {
			text += part.text
		}
	}
	_, faults := config.Check(write(t, "mpgate.toml", text), config.Options{Check: true})
	faults = slices.DeleteFunc(faults, func(f config.Fault) bool { return f.Severity == config.Warning })
	for _, f := range faults {
		t.Errorf("%v\nof\n%s", f, text)
	}
}

// migrateNginx translates one configuration of nginx.
func migrateNginx(t *testing.T, text string) {
	if strings.HasPrefix(text, "stream") {
		text += "http { server { listen 8080; location / { proxy_pass http://127.0.0.1:9000; } } }\n"
	}
	out := filepath.Join(t.TempDir(), "mpgate.toml")
	if got, err := exec.Command(binary, "import", "nginx", write(t, "nginx.conf", text), "-o", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if _, err := config.Load(out, config.Options{Check: true}); err != nil {
		t.Error(err)
	}
}

// migrateCommands runs the commands of the page with a configuration of nginx in the place of the
// host's.
func migrateCommands(t *testing.T, text string) {
	file := write(t, "nginx.conf", "http { server { location / { proxy_pass http://127.0.0.1:9000; } } }\n")
	text = strings.ReplaceAll(text, "/etc/nginx/nginx.conf", file)
	cmd := exec.Command("sh", "-e", "-c", strings.ReplaceAll(text, "mpgate ", binary+" "))
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "mpgate.toml is valid") {
		t.Errorf("%v\n%s", err, out)
	}
}
