package nginxconf

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

// memory is a Source of files in memory.
type memory fstest.MapFS

func (m memory) Read(name string, limit int) ([]byte, error) {
	b, err := fstest.MapFS(m).ReadFile(name)
	return b[:min(len(b), limit)], err
}

func (m memory) Glob(pattern string) ([]string, error) { return fs.Glob(fstest.MapFS(m), pattern) }

func files(pairs ...string) memory {
	m := memory{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

// text writes directives on one line, with arguments in quotes where they were.
func text(list []*Directive) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s", d.Name)
		for i, a := range d.Args {
			if d.Quoted[i] {
				a = fmt.Sprintf("%q", a)
			}
			b.WriteString(" " + a)
		}
		if d.IsBlock() {
			fmt.Fprintf(&b, "{%s}", text(d.Block))
		}
		b.WriteString(";")
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for src, want := range map[string]string{
		"a b  c; # x ; {\n\td;":            "a b c;d;",
		`a "x y;{}#" 'q"r';`:               `a "x y;{}#" "q\"r";`,
		`a "b\"c\n" 'd\'e';`:               `a "b\"c\n" "d'e";`,
		`location ~ \.php$ { deny all; }`:  `location ~ \.php${deny all;};`,
		`rewrite "^/x{8}\/(.*)" /$1;`:      `rewrite "^/x{8}\\/(.*)" /$1;`,
		"a ${b}c/${d};":                    "a ${b}c/${d};",
		`if ($a = "b") { c; }`:             `if ($a = "b)"{c;};`,
		`if ($a = "b" ) { c; }`:            `if ($a = "b" ){c;};`,
		"a#b c;":                           "a#b c;",
		"http{server{}server{listen 80;}}": "http{server{};server{listen 80;};};",
		"\ufeffa;":                         "a;",
		`x_by_lua_block { s = "}" -- }` + "\n" + ` t = {1} } b;`: "x_by_lua_block{};b;",
		"include b.conf;c;":          "one 1;c;",
		"include d/*.conf;":          "x;y;",
		"include none/*.conf; a;":    "a;",
		"server { include b.conf; }": "server{one 1;};",
	} {
		m := files("etc/n.conf", src, "etc/b.conf", "one 1;", "etc/d/2.conf", "y;", "etc/d/1.conf", "x;")
		list, missing, err := Parse("etc/n.conf", "", m)
		if err != nil || len(missing) > 0 || text(list) != want {
			t.Errorf("%s\nis %s, want %s (%v, %v)", src, text(list), want, missing, err)
		}
	}
}

func TestPosition(t *testing.T) {
	list, missing, err := Parse("n.conf", "", files("n.conf", "a;\n\nb \"x\ny\" {\n c;\n}\ninclude gone;\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := list[1]; d.Line != 3 || d.Block[0].Line != 5 || d.File != "n.conf" {
		t.Errorf("%+v", d)
	}
	if len(missing) != 1 || missing[0].Include.Line != 7 || !strings.Contains(missing[0].Why, "not exist") {
		t.Errorf("%+v", missing)
	}
}

func TestErrors(t *testing.T) {
	for src, want := range map[string]string{
		"a":                            `n.conf:1: a is not terminated by ";"`,
		"a;\nb {":                      "n.conf:2: the block of b is not closed",
		"a; }":                         "n.conf:1: unexpected }",
		"; a;":                         "n.conf:1: unexpected ;",
		"{ }":                          "n.conf:1: unexpected {",
		"a \"b;":                       "n.conf:1: the quote \" is not closed",
		"a \"b\"c;":                    `n.conf:1: unexpected 'c' after a quoted word`,
		"a b }":                        `n.conf:1: a is not terminated by ";"`,
		"x_by_lua_block { a":           "n.conf:1: the block is not closed",
		"include n.conf;":              "n.conf:1: more than 16 files include each other",
		strings.Repeat("a {", 40):      "n.conf:1: more than 32 blocks in each other",
		strings.Repeat("x", maxWord+2): "n.conf:1: a word is longer than 65536 bytes",
		strings.Repeat(" ", maxFile+1): "n.conf:1: the file has more than 4194304 bytes, or all have more than 33554432",
		"a" + strings.Repeat(" b", maxArgs+1) + ";": "n.conf:1: a has more than 10000 arguments",
	} {
		_, _, err := Parse("n.conf", "", files("n.conf", src))
		var e *Error
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", src, err, want)
		}
	}
}

// TestFiles bounds the number of files: each includes all of them.
func TestFiles(t *testing.T) {
	m := files("etc/n.conf", "include d/*;")
	for i := range 50 {
		m[path.Join("etc/d", fmt.Sprint(i))] = &fstest.MapFile{Data: []byte("include d/*;")}
	}
	if _, _, err := Parse("etc/n.conf", "", m); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a b;", `a "b\"" 'c' { d; }`, "include n.conf;", "x_by_lua_block { -- }\n }", "${a}{", "\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		list, _, err := Parse("n.conf", "", files("n.conf", src))
		if err != nil {
			return
		}
		lines := strings.Count(src, "\n") + 1
		var check func([]*Directive)
		check = func(list []*Directive) {
			for _, d := range list {
				if len(d.Args) != len(d.Quoted) || d.Line < 1 || d.Line > lines {
					t.Errorf("%+v of %q", d, src)
				}
				check(d.Block)
			}
		}
		check(list)
	})
}
