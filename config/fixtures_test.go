package config

import (
	goflag "flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = goflag.Bool("update", false, "rewrite the .txt files of the fixtures; read them before a commit")

// TestFixtures loads testdata/*.good.toml and *.bad.toml, and those of testdata/mistakes, each a
// mistake of somebody who is new to mpgate. What they give (warnings, errors) stands
// beside them as .txt; a good one without that file gives nothing.
func TestFixtures(t *testing.T) {
	for _, verdict := range []string{"good", "bad"} {
		files, err := filepath.Glob("testdata/*." + verdict + ".toml")
		mistakes, _ := filepath.Glob("testdata/mistakes/*." + verdict + ".toml")
		if err != nil || len(files) == 0 || len(mistakes) == 0 {
			t.Fatalf("no fixture of the kind %q: %v", verdict, err)
		}
		files = append(files, mistakes...)
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) {
				c, faults := Check(file, Options{Lookup: noEnv})
				if (c != nil) != (verdict == "good") {
					t.Errorf("it is called %s, but the faults are\n%v", verdict, Errors(faults))
				}
				loaded, err := Load(file, Options{Lookup: noEnv})
				if (err == nil) != (c != nil) || (loaded != nil) != (c != nil) {
					t.Errorf("Check says %v, Load says %v", c != nil, err)
				}
				var b strings.Builder
				for _, f := range faults {
					if f.File != file || f.Line < 1 {
						t.Errorf("a fault without place: %+v", f)
					}
					b.WriteString(strings.TrimPrefix(f.String(), filepath.Dir(file)+"/"))
					if f.Severity == Warning {
						b.WriteString(" [warning]")
					}
					b.WriteByte('\n')
				}
				compare(t, strings.TrimSuffix(file, ".toml")+".txt", b.String())
			})
		}
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if got == "" {
			os.Remove(file)
		} else if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}
