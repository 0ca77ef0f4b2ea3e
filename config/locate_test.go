package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// TestLocate finds values by their path: keys, and numbers of array elements.
func TestLocate(t *testing.T) {
	text := strings.Join([]string{
		1:  `# [comment] a = 1`,
		2:  `top = "a # no comment [ { \" ]" # [x]`,
		3:  `"quoted.key" = 1`,
		4:  `[table] # comment`,
		5:  `a.b.c = 1`,
		6:  `a . "d e" = 2`,
		7:  `array = [ # comment ]`,
		8:  `  1, # two ]`,
		9:  `  "]", '''[`,
		10: `]''',`,
		11: `  { x = 1, y = [`,
		12: `    2 ] }, # TOML 1.1: a line end and a comment in an inline table`,
		13: `]`,
		14: `long = """`,
		15: `[not.a.table]`,
		16: `a = \"""`,
		17: `"""""`,
		18: `after = 1979-05-27 07:32:00`,
		19: `[ table . "sub \u0041\x42" ]`,
		20: `k = true`,
		21: `[[list]]`,
		22: `name = 1`,
		23: `[list.sub]`,
		24: `k = 1`,
		25: `[[list.inner]]`,
		26: `k = 1`,
		27: `[[list]]`,
		28: `sub.k = 2`,
		29: `[[list.inner]]`,
		30: `[[list.inner]]`,
		31: `k = 2`,
		32: `[late.early]`,
		33: `[late]`,
		34: `k = { a = { b = { c = "}" } } }`,
		35: `literal = 'C:\'`,
		36: `end = "\\"`,
		37: `last = 1`,
	}, "\n")
	text = strings.Replace(text, ``, "", 1)
	root, deep := locate(text)
	if deep != 0 {
		t.Fatalf("too deep in line %d", deep)
	}
	for _, tt := range []struct {
		path []any
		line int
	}{
		{[]any{"top"}, 3},
		{[]any{"quoted.key"}, 4},
		{[]any{"table"}, 5},
		{[]any{"table", "a"}, 6},
		{[]any{"table", "a", "b", "c"}, 6},
		{[]any{"table", "a", "d e"}, 7},
		{[]any{"table", "array"}, 8},
		{[]any{"table", "array", 0}, 9},
		{[]any{"table", "array", 1}, 10},
		{[]any{"table", "array", 2}, 10},
		{[]any{"table", "array", 3}, 12},
		{[]any{"table", "array", 3, "x"}, 12},
		{[]any{"table", "array", 3, "y"}, 12},
		{[]any{"table", "array", 3, "y", 0}, 13},
		{[]any{"table", "long"}, 15},
		{[]any{"table", "after"}, 19},
		{[]any{"table", "sub AB"}, 20},
		{[]any{"table", "sub AB", "k"}, 21},
		{[]any{"list", 0}, 22},
		{[]any{"list", 0, "name"}, 23},
		{[]any{"list", 0, "sub"}, 24},
		{[]any{"list", 0, "sub", "k"}, 25},
		{[]any{"list", 0, "inner", 0, "k"}, 27},
		{[]any{"list", 1}, 28},
		{[]any{"list", 1, "sub", "k"}, 29},
		{[]any{"list", 1, "inner", 0}, 30},
		{[]any{"list", 1, "inner", 1}, 31},
		{[]any{"list", 1, "inner", 1, "k"}, 32},
		{[]any{"late", "early"}, 33},
		{[]any{"late"}, 34},
		{[]any{"late", "k", "a", "b", "c"}, 35},
		{[]any{"late", "literal"}, 36},
		{[]any{"late", "end"}, 37},
		{[]any{"late", "last"}, 38},
	} {
		s := root
		for _, step := range tt.path {
			s = follow(s, step)
		}
		switch {
		case s == nil:
			t.Errorf("%v: not found", tt.path)
		case s.line != tt.line:
			t.Errorf("%v: line %d, want %d", tt.path, s.line, tt.line)
		}
	}
	if _, ok := root.keys["table"].keys["not"]; ok {
		t.Error("a table was found within a string")
	}
	sameShape(t, text)
}

func follow(s *spot, step any) *spot {
	if s == nil {
		return nil
	}
	switch step := step.(type) {
	case string:
		return s.keys[step]
	case int:
		if step < len(s.elems) {
			return s.elems[step]
		}
	}
	return nil
}

// sameShape holds locate to the parser: every key and element that the parser finds has a spot, and
// no spot is of anything else.
func sameShape(t *testing.T, text string) bool {
	t.Helper()
	tree := map[string]any{}
	if _, err := toml.Decode(text, &tree); err != nil {
		return false
	}
	root, deep := locate(text)
	if deep != 0 {
		return true
	}
	lines := 1 + strings.Count(text, "\n")
	if err := matches(tree, root, lines); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return true
}

func matches(v any, s *spot, lines int) error {
	if s == nil {
		return fmt.Errorf("no spot for %v", v)
	}
	if s.line < 1 || s.line > lines {
		return fmt.Errorf("line %d of %d", s.line, lines)
	}
	if t, ok := v.(map[string]any); ok {
		if len(t) != len(s.keys) {
			return fmt.Errorf("%d keys, %d spots", len(t), len(s.keys))
		}
		for k, e := range t {
			if err := matches(e, s.keys[k], lines); err != nil {
				return fmt.Errorf("%q: %w", k, err)
			}
		}
		return nil
	}
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice {
		return nil
	}
	if r.Len() != len(s.elems) {
		return fmt.Errorf("%d elements, %d spots", r.Len(), len(s.elems))
	}
	for i := range r.Len() {
		if err := matches(r.Index(i).Interface(), s.elems[i], lines); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

func TestLocateTooDeep(t *testing.T) {
	text := "a = 1\nb = " + strings.Repeat("[", 100) + strings.Repeat("]", 100)
	if _, deep := locate(text); deep != 2 {
		t.Errorf("too deep in line %d, want 2", deep)
	}
}
