package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples loads every example as an operator gets it: no fault, no warning.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, faults := Check(file, Options{Lookup: noEnv})
			if len(faults) > 0 {
				t.Error(Errors(faults))
			}
			if c == nil || len(c.Listeners) == 0 || len(c.Routes) == 0 || len(c.Backends) == 0 {
				t.Errorf("it has no listener, route or backend: %+v", c)
			}
		})
	}
}

// TestExampleComments loads the keys that stand in comments as well: the acme part of edge.toml
// instead of its files.
func TestExampleComments(t *testing.T) {
	for file, sections := range map[string][]string{
		"edge.toml":      {"[listener.tls.acme]", "[listener.tls.acme.dns]"},
		"multipath.toml": {"[[listener]]"},
	} {
		text := readText(t, filepath.Join("..", "examples", file))
		for _, section := range sections {
			block, ok := commented(text, section)
			if !ok {
				t.Errorf("%s has no %s in a comment", file, section)
				continue
			}
			if strings.HasSuffix(section, ".dns]") {
				block = strings.Replace(block, section, "[listener.tls.acme]\ndomains = [\"*.example.org\"]\n"+section, 1)
			}
			main := write(t, map[string]string{"main.toml": rest + strings.ReplaceAll(tlsFor(section), "SECTION", block)})
			if got := faults(main, Options{Lookup: env(map[string]string{"TSIG_SECRET": "c2VjcmV0"})}); got != "" {
				t.Errorf("%s: %s\nof\n%s", file, got, block)
			}
		}
	}
}

func tlsFor(section string) string {
	if section == "[[listener]]" {
		return "SECTION"
	}
	return "[[listener]]\nname = \"secure\"\naddress = \":443\"\nSECTION"
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// commented is a section that stands in a comment, up to the comment's end or an empty line of it.
func commented(text, section string) (string, bool) {
	_, after, ok := strings.Cut(text, "# "+section+"\n")
	block := section + "\n"
	for _, line := range strings.Split(after, "\n") {
		inner, found := strings.CutPrefix(line, "# ")
		if !found {
			break
		}
		block += inner + "\n"
	}
	return block, ok
}
