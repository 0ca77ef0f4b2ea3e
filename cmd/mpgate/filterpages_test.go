package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFilterPages runs what the pages of docs/filters and docs/actions show: each configuration is
// valid, and each command prints what the page says. TestAuthPages runs the pages of authPages.
func TestFilterPages(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, dir := range []string{"filters", "actions"} {
		found, err := filepath.Glob("../../docs/" + dir + "/*.md")
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages in docs/%s: %v", dir, err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		if name != "README" && !slices.Contains(authPages, name) {
			t.Run(filepath.Base(page), func(t *testing.T) { filterPage(t, page) })
		}
	}
}

func filterPage(t *testing.T, page string) {
	dir := t.TempDir()
	configs, commands := 0, 0
	for _, b := range blocks(t, page) {
		switch b.kind {
		case "toml":
			configs++
			if err := os.WriteFile(filepath.Join(dir, "mpgate.toml"), []byte(b.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := inDir(dir, "mpgate check --no-files"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		case "console":
			for _, command := range strings.Split(b.text, "$ ")[1:] {
				commands++
				line, want, _ := strings.Cut(command, "\n")
				// The exit code says whether a route answers, and the page shows both.
				if out, _ := inDir(dir, line); strings.TrimSpace(out) != strings.TrimSpace(want) {
					t.Errorf("%s prints\n%s\nbut the page says\n%s", line, out, want)
				}
			}
		default:
			t.Errorf("a block of the kind %q, which nothing here runs", b.kind)
		}
	}
	if configs == 0 || commands == 0 {
		t.Errorf("the page has %d configurations and %d commands", configs, commands)
	}
}

// inDir runs a command of mpgate with the configuration of a directory.
func inDir(dir, line string) (string, error) {
	cmd := exec.Command("bash", "-c", strings.Replace(line, "mpgate", binary, 1)+" -c mpgate.toml")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
