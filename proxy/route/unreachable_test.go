package route

import (
	"errors"
	"fmt"
	"testing"
)

func TestUnreachable(t *testing.T) {
	for _, tt := range []struct{ one, two string }{
		{"- /x - method=GET", "- /x - method=GET query.v=1"},
		{"- /x - method=GET,PUT", "- /x - method=PUT"},
		{"- /x - header.A=*", "- /x - header.a=1"},
		{"- /x - query.a=*", "- /x - query.a=2 cookie.b="},
		{"- /x - cookie.a=", "- /x - cookie.a= method=PUT"},
		{"- /x - client=10.0.0.0/8,192.0.2.0/24", "- /x - client=10.1.0.0/16,192.0.2.1/32"},
		{"- /x web method=GET", "- /x web method=GET query.v=1"},
		{"- /*/* -", "- /**/x -"},
		{"- /*/* -", "- *.js -"},
		{"- /a/*/* -", "- /a/**/b/*/c -"},
		{"a,b /*/* -", "a *.js,*.css -"},
		{"- /* -", "- ~^/a/ -"},
		{"- /* -", "- ~a web"},
		{"- /a/* -", "- ~^/a/b -"},
		{"- ~a - method=GET", "- ~a - method=GET query.v=1"},
		{"- ~a - method=GET", "- ~a - method=GET query.v=*"},
	} {
		_, err := Build(newRules(tt.one, tt.two))
		var u *UnreachableError
		if !errors.As(err, &u) || u.Name != tt.two || u.By != tt.one || u.Index != 1 || u.ByIndex != 0 {
			t.Errorf("%s behind %s: got %v", tt.two, tt.one, err)
		}
	}
}

func TestUnreachableText(t *testing.T) {
	_, err := Build([]rule{
		{Name: "all", Match: Match{Hosts: []string{"a"}, Paths: []string{"/*/*"}}},
		{Name: "js", Match: Match{Hosts: []string{"a"}, Paths: []string{"*.js"}, Listener: "web", Methods: []string{"GET"}}},
	})
	want := `route "js" can never be reached: route "all" (host "a", path "/*/*") comes first and matches all its requests ` +
		`(host "a", path "*.js", listener "web", method GET); make "js" more specific or remove it`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestReachable(t *testing.T) {
	for _, rules := range [][]string{
		{"- /x - method=GET", "- /x - method=PUT", "- /x -"},
		{"- /x - method=GET", "- /x - query.v=1"},
		{"- /x - method=PUT", "- /x - method=PUT,GET"},
		{"- /x - header.A=1", "- /x - header.A=*"},
		{"- /x - header.A=", "- /x - header.A=*"},
		{"- /x - header.A=1", "- /x - query.A=1"},
		{"- /x - client=10.0.0.0/16", "- /x - client=10.0.0.0/8"},
		{"- /x web", "- /x -"},
		{"- /*/* web", "- /**/x -"},
		{"- /*/* - method=GET", "- /**/x -"},
		{"- /a/* -", "- /*/b -", "- *.js -", "- /* -"},
		{"- /*.js -", "- /x*.js -"},
		{"- /*/x -", "- /**/x -"},
		{"- /*/* -", "- /* -"},
		{"- /a/* -", "- ~^/a -"},
		{"- ~^/a -", "- ~^/a/b -"},
		{"a /*/* -", "a,b *.js -"}, // for b it is reached
		{"*.a /*/* -", "b.* *.js -"},
		{"- /* -", "- - -"},
		{"- /*/* -", "- ~^/$ -"},
	} {
		if _, err := Build(newRules(rules...)); err != nil {
			t.Errorf("%q: %v", rules, err)
		}
	}
}

// 10,000 rules are checked in a time that a reload may take.
func BenchmarkUnreachable(b *testing.B) {
	for name, text := range map[string]func(i int) string{
		"endings":     func(i int) string { return fmt.Sprintf("- *.x%d -", i) },
		"objects":     func(i int) string { return fmt.Sprintf("- /*/o%d/* -", i) },
		"deep":        func(i int) string { return fmt.Sprintf("- /**/o%d/* -", i) },
		"expressions": func(i int) string { return fmt.Sprintf("- ~^/o%d/ -", i) },
		"conditions":  func(i int) string { return fmt.Sprintf("- /x - query.v=%d", i) },
	} {
		b.Run(name, func(b *testing.B) {
			var texts []string
			for i := range many {
				texts = append(texts, text(i))
			}
			table, err := build(newRules(texts...))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if len(unreachable(table.patterns, many)) > 0 {
					b.Fatal("unreachable")
				}
			}
		})
	}
}
