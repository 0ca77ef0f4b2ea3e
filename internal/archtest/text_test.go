package archtest

import (
	"bytes"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestLogKeyOfErrors: an error is logged under one key, "err", so that a search finds all of them.
func TestLogKeyOfErrors(t *testing.T) {
	found := 0
	for _, f := range load(t) {
		if f.isTest() || under(f.dir(), "bench") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			var list []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				list = n.Args
			case *ast.CompositeLit:
				list = n.Elts
			}
			for i, e := range list {
				key, ok := e.(*ast.BasicLit)
				if !ok || key.Kind != token.STRING || i+1 == len(list) {
					continue
				}
				if key.Value == `"err"` {
					found++
				}
				if _, text := list[i+1].(*ast.BasicLit); key.Value == `"error"` && !text {
					t.Errorf(`%s logs an error under "error"; use "err"`, f.name)
				}
			}
			return true
		})
	}
	if found == 0 {
		t.Error("no error is logged; does this test look at the right calls?")
	}
}

// columns is where prose and comments wrap.
const columns = 100

// TestMarkdownWraps: prose wraps at 100 columns. Headings, tables, code, images and words that are
// longer may not.
func TestMarkdownWraps(t *testing.T) {
	pages := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "examples/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: no file (%v)", pattern, err)
		}
		for _, name := range names {
			pages++
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code := false
			for i, line := range bytes.Split(text, []byte("\n")) {
				l := string(line)
				if strings.HasPrefix(l, "```") {
					code = !code
				}
				if code || strings.HasPrefix(l, "|") || strings.HasPrefix(l, "#") || strings.HasPrefix(l, "    ") || strings.HasPrefix(l, "![") {
					continue
				}
				if utf8.RuneCountInString(l) > columns && strings.Contains(strings.TrimSpace(strings.TrimLeft(l, " -")), " ") {
					t.Errorf("%s:%d has %d columns; wrap it at %d", filepath.Base(name), i+1, utf8.RuneCountInString(l), columns)
				}
			}
		}
	}
	if pages < 10 {
		t.Errorf("found %d pages", pages)
	}
}

// notYet are directories that still have trailing comments beyond the last column. Nothing is added
// here.
var notYet = []string{}

// TestCommentsWrap: comments wrap at 100 columns, a tab counting as 4. Those that stand alone may
// be longer where they are indented text, such as a table or code; a longer trailing comment stands
// above its line instead.
func TestCommentsWrap(t *testing.T) {
	comments := 0
	pending := map[string]bool{}
	for _, f := range load(t) {
		lines := strings.Split(string(f.source), "\n")
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				n := f.fset.Position(c.Pos()).Line
				text := strings.TrimLeft(lines[n-1], "\t")
				long := utf8.RuneCountInString(text) + 4*(len(lines[n-1])-len(text))
				comments++
				switch {
				case long <= columns || !strings.HasPrefix(c.Text, "// ") || strings.HasPrefix(text, "//  "):
				case !strings.HasPrefix(text, "//") && slices.Contains(notYet, f.dir()):
					pending[f.dir()] = true
				case !strings.HasPrefix(text, "//"):
					t.Errorf("%s:%d has %d columns; put the comment above the line", f.name, n, long)
				case strings.Contains(text[3:], " "):
					t.Errorf("%s:%d has %d columns; wrap it at %d", f.name, n, long, columns)
				}
			}
		}
	}
	if comments < 1000 {
		t.Errorf("found %d comments", comments)
	}
	for _, dir := range notYet {
		if !pending[dir] {
			t.Errorf("%s has no long trailing comment any more; take it out of notYet", dir)
		}
	}
}
