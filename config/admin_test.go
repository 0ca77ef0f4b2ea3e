package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The admin address is found without the rest of the file, and only where Load would find the same.
func TestFindAdmin(t *testing.T) {
	env := func(name string) (string, bool) {
		v, set := strings.CutPrefix(name, "ADMIN_")
		if !set {
			v = ""
		}
		return v, set
	}
	const route = "[[route]]\nname = \"r\"\nbackend = \"b\"\n"
	for name, tt := range map[string]struct {
		text, address string // "off" is off; "" is the default; "?" is not found
	}{
		"first":               {"[admin]\naddress = \"127.0.0.1:9\"\n" + route, "127.0.0.1:9"},
		"last":                {route + "[admin] # here\n\naddress = '127.0.0.1:9' # it is", "127.0.0.1:9"},
		"dotted":              {"admin.address = \"127.0.0.1:9\"\n" + route, "127.0.0.1:9"},
		"inline":              {"admin = { address = \"127.0.0.1:9\" }\n" + route, "127.0.0.1:9"},
		"quoted":              {route + "[ \"admin\" ]\n\"addr\\u0065ss\" = \"127.0.0.1:9\"\n" + route, "127.0.0.1:9"},
		"byte order mark":     {"\ufeff[admin]\naddress = \"127.0.0.1:9\"\n", "127.0.0.1:9"},
		"a relative path":     {"[admin]\naddress = \"unix:a.sock\"\n", "unix:DIR/a.sock"},
		"a variable":          {"[admin]\naddress = \"${ADMIN_127}.0.0.1:9\"\n", "127.0.0.1:9"},
		"off":                 {"[admin]\naddress = \"off\"\n", "off"},
		"left out":            {route, ""},
		"empty":               {"[admin]\n" + route, ""},
		"other faults":        {"[admin]\naddress = \"127.0.0.1:9\"\n[[route]]\nnonsense = 1\n[limits]\nheader_time = \"soon\"\n", "127.0.0.1:9"},
		"not TOML elsewhere":  {"[admin]\naddress = \"127.0.0.1:9\"\n[[route]]\nname = \"a\nx\n[[route]\n", "127.0.0.1:9"},
		"only in a string":    {"[[route]]\nname = \"\"\"\n[admin]\naddress = \"127.0.0.1:1\"\n\"\"\"\n[admin]\naddress = \"127.0.0.1:9\"\n", "127.0.0.1:9"},
		"only in a comment":   {"# [admin]\n#address = \"127.0.0.1:1\"\n", ""},
		"within another":      {"[log.admin]\naddress = \"127.0.0.1:1\"\n[admin]\naddress = \"127.0.0.1:9\"\n", "127.0.0.1:9"},
		"beside an include":   {"include = [\"x.toml\"]\n[admin]\naddress = \"127.0.0.1:9\"\n", "127.0.0.1:9"},
		"in an include maybe": {"include = [\"x.toml\"]\n[admin]\n", "?"},
		"twice":               {"[admin]\naddress = \"127.0.0.1:9\"\n[admin]\naddress = \"127.0.0.1:8\"\n", "?"},
		"an unset variable":   {"[admin]\naddress = \"${NOT_SET}\"\n", "?"},
		"a fault":             {"[admin]\naddress = 9\n", "?"},
		"an unknown key":      {"[admin]\nadress = \"127.0.0.1:9\"\n", "?"},
		"an array":            {"[[admin]]\naddress = \"127.0.0.1:9\"\n", "?"},
		"not TOML":            {"[admin]\naddress = 127.0.0.1:9\n", "?"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "mpgate.toml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			a, ok := FindAdmin(file, Options{Lookup: env, Check: true})
			got := a.Address.String()
			switch {
			case !ok:
				got = "?"
			case a.Off:
				got = "off"
			case !a.Written:
				got = ""
			}
			if want := strings.ReplaceAll(tt.address, "DIR", dir); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if _, ok := FindAdmin(filepath.Join(t.TempDir(), "none.toml"), Options{}); ok {
		t.Error("a file that does not exist has an admin address")
	}
}
