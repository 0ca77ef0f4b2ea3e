package config

import (
	"os"
	"path/filepath"
	"testing"
)

func seeds(f *testing.F) {
	for _, pattern := range []string{"testdata/*.toml", "../examples/*.toml", "reference.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no file %s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	for _, text := range []string{
		"", "\ufeffa = 1", "a=[[{}]]", "a='''", "[a", "[[", "\"\\", "a.b.c={d.e=1}", "[[listener]]\n[listener.tls]\n[[listener]]\n", "a=\"\"\"\\\n\"\"\"\"\"", "x = \"${", "\r", "a=1\r\nb=2",
	} {
		f.Add(text)
	}
}

// FuzzLoad loads any text: no panic, every fault has a file and a line of it, and what was taken
// fits the schema, and can be printed and taken again.
func FuzzLoad(f *testing.F) {
	seeds(f)
	schema := theSchema(f)
	f.Fuzz(func(t *testing.T, text string) {
		l := newLoader(Options{Lookup: noEnv})
		at := l.place("main.toml", 0)
		l.names = []string{at.file}
		root := l.parse(text, at)
		if root != nil {
			delete(root.keys, "include") // the fuzzer shall not read files
		}
		c, faults := l.finish(root)
		lines := 1
		for i := range len(text) {
			if text[i] == '\n' {
				lines++
			}
		}
		for _, fault := range faults {
			if fault.File != "main.toml" || fault.Line < 1 || fault.Line > lines || fault.Msg == "" {
				t.Errorf("a fault without place or words: %+v (%d lines)", fault, lines)
			}
		}
		if (c == nil) == (Errors(faults).errors() == nil) {
			t.Errorf("config %v, faults %v", c != nil, faults)
		}
		if c == nil {
			return
		}
		if problems := validateText(t, schema, text); len(problems) > 0 {
			t.Errorf("the schema rejects what was taken: %q", problems)
		}
		text = encode(t, c)
		l = newLoader(Options{Lookup: noEnv})
		again, faults := l.finish(l.parse(text, l.place("main.toml", 0)))
		if again == nil {
			for _, fault := range faults {
				if fault.Severity == Error && !l.secret(fault.Key) {
					t.Fatalf("%v in\n%s", fault, text)
				}
			}
			return
		}
		again.Admin.Written = c.Admin.Written
		if second := encode(t, again); second != text {
			t.Errorf("printed again it is\n%s\nnot\n%s", second, text)
		}
	})
}

// secret reports whether a key's value is hidden, so that it cannot be read again.
func (l *loader) secret(key string) bool {
	last := key[1+len(parentKey(key)):]
	return last == "key" || last == "key_secret" || last == "webhook_token"
}

// FuzzLocate holds locate to the parser, see sameShape, and to an end on every text.
func FuzzLocate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		if !sameShape(t, text) {
			locate(text)
		}
	})
}
