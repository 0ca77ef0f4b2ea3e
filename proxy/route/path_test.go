package route

import "testing"

// Each pattern is alone in its table.
func TestPathPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"/api", []string{"/api"}, []string{"/api/", "/apiary", "/", "*", "/API"}},
		{"/api/*", []string{"/api", "/api/", "/api/x", "/api/x/y/"}, []string{"/apiary", "/", "/a", "*", ""}},
		{"/*", []string{"/", "/a", "/a/b/"}, []string{"*", ""}},
		{"*.js", []string{"/a.js", "/x/y/a.js", "/.js", "/a.js.js", "/a.b/c.js"}, []string{"/a.jsx", "/js", "/a.js/", "/a.js/b", "/ajs", "*"}},
		{"*.tar.*", []string{"/x.tar.gz", "/a/.tar."}, []string{"/x.tar", "/x.tar.gz/y"}},
		{"/*/objects/*", []string{"/a/objects", "/a/objects/", "/a/objects/x/y"}, []string{"/objects", "/objects/x", "/a/b/objects/x", "/a/objectsx"}},
		{"/*/objects", []string{"/a/objects"}, []string{"/a/objects/", "/objects", "/a/b/objects"}},
		{"/*/", []string{"/a/"}, []string{"/a", "/", "/a/b/"}},
		{"/*/*", []string{"/a", "/a/", "/a/b/c"}, []string{"/", "*"}},
		{"/**/.*", []string{"/.git", "/a/.env", "/a/b/.x", "/.git/.x"}, []string{"/.git/config", "/a", "/a.b", "/.git/"}},
		{"/**/.*/*", []string{"/.git", "/.git/", "/.git/config", "/a/.git/b/c"}, []string{"/a", "/a.b/c", "/"}},
		{"/**/a", []string{"/a", "/x/a", "/a/a/a", "/x/y/a"}, []string{"/a/", "/a/b", "/xa"}},
		{"/x/**/a/*", []string{"/x/a", "/x/y/z/a", "/x/y/a/b", "/x/a/a"}, []string{"/x", "/a", "/x/y", "/y/x/a", "/x/ya"}},
		{"/**/a/**/b/*", []string{"/a/b", "/x/a/y/b/z", "/a/a/b", "/b/a/b"}, []string{"/a", "/b/a", "/b", "/a/xb"}},
		{"/**/a/*/b", []string{"/a/x/b", "/a/a/x/b", "/a/a/b"}, []string{"/a/b", "/a/x/y/b", "/a/x/b/"}},
		{"/img-*.png", []string{"/img-.png", "/img-1.png"}, []string{"/img.png", "/img-1.png/", "/a/img-1.png", "/img-1.jpg"}},
		{"/a*b*c", []string{"/abc", "/axxbyyc", "/abbc", "/abcc"}, []string{"/ac", "/acb", "/abcx", "/a/b/c"}},
		{"/aa*aa", []string{"/aaaa", "/aaxaa"}, []string{"/aaa", "/aa"}},
		{"/*a*", []string{"/a", "/bab"}, []string{"/b", "/", "/a/b", "/ba/"}},
		{"/**/a*/**/*b/c", []string{"/a/b/c", "/x/ay/z/xb/c"}, []string{"/ab/c", "/b/a/c"}},
		{"~^/v([0-9]+)/", []string{"/v1/", "/v12/x"}, []string{"/v/", "/x/v1/", "/v1", "*"}},
		{`~\.(?:png|jpg)$`, []string{"/a.png", "/b/c.jpg"}, []string{"/a.pngx", "/a.png/"}},
		{"~.*", []string{"/", "/a"}, []string{"*"}},
		{"~(?i)/ADMIN", []string{"/x/admin/y", "/Admin"}, []string{"/adm"}},
		{"~foo.*bar", []string{"/foo/bar", "/xfoobary"}, []string{"/barfoo", "/foo", "/bar"}},
	} {
		table := buildRules(t, "- "+tt.pattern+" -")
		for _, path := range tt.yes {
			if _, ok := table.Match(ask("", path, "")); !ok {
				t.Errorf("%s does not match %s", tt.pattern, path)
			}
			if !table.patterns[0].path.matches([]byte(path)) {
				t.Errorf("%s alone does not match %s", tt.pattern, path)
			}
		}
		for _, path := range tt.no {
			if _, ok := table.Match(ask("", path, "")); ok {
				t.Errorf("%s matches %s", tt.pattern, path)
			}
			if table.patterns[0].path.matches([]byte(path)) {
				t.Errorf("%s alone matches %s", tt.pattern, path)
			}
		}
	}
}

// Segment by segment: literal, glob, "*", "**"; exact before prefix; expressions last.
func TestPathPrecedence(t *testing.T) {
	for _, tt := range []struct{ path, first, second string }{
		{"/a/b", "/a/b", "/a/*"},
		{"/a/b", "/a/b/*", "/a/*"},
		{"/a/b", "/a/*", "/*/b"},
		{"/a/b", "/*/b", "/**/b"},
		{"/a/b/c", "/*/b/c", "/*/b/*"},
		{"/a/b/c", "/*/b/*", "/*/*"},
		{"/x.js", "*.js", "/*"},
		{"/api/x.js", "/api/*", "*.js"},
		{"/api/x.js", "/api/*.js", "/api/*"},
		{"/abc", "/abc/*", "/ab*"},
		{"/abc", "/ab*", "/a*"},
		{"/abc", "/a*", "/*bc"},
		{"/abc", "/*bc", "/*c"},
		{"/abc", "/*c", "/*/*"},
		{"/axbyc", "/a*b*c", "/a*c"},
		{"/a/b", "/**/b", "~^/a/b$"},
		{"/a/b", "/*", "~^/a/b/?"},
		{"/a", "~^/a", "-"},
		{"/a/b/c/d", "/**/b/**/d", "/**/c/d"}, // by the text, for want of another difference
	} {
		for _, order := range [][2]string{{tt.first, tt.second}, {tt.second, tt.first}} {
			table, err := build(newRules("- "+order[0]+" -", "- "+order[1]+" -"))
			if err != nil {
				t.Fatal(err)
			}
			if got := table.match(ask("", tt.path, "")); got != "- "+tt.first+" -" {
				t.Errorf("%s: got %q of %q, want %q", tt.path, got, order, tt.first)
			}
		}
	}
}

func TestCaptures(t *testing.T) {
	for _, tt := range []struct{ pattern, path, want string }{
		{"/api/*", "/api/x/y", "x/y"}, {"/api/*", "/api/", ""}, {"/api/*", "/api", ""}, {"/*", "/a/b", "a/b"}, {"/*", "/", ""},
		{"-", "/a/b", "a/b"}, {"-", "*", ""}, {"/a", "/a", ""},
		{"*.js", "/x/app.js", "app"}, {"/*/objects/*", "/a/objects/b/c", "b/c"}, {"/*/objects/*", "/a/objects", ""},
		{"/*/x", "/abc/x", "abc"}, {"/**/x", "/a/b/x", "a/b"}, {"/**/x", "/x", ""}, {"/**/x", "/x/x/x", "x/x"},
		{"/**/.*", "/a/.env", "env"}, {"/**/x/*", "/x/x/y", "x/y"}, {"/**/x/*", "/a/x", ""}, {"/img-*-*.png", "/img-1-2-3.png", "2-3"},
		{"/**/a/**/b/*", "/a/x/b/c/b/d", "c/b/d"}, {"/**/a/**/b", "/a/x/b/c/b", "x/b/c"}, {"~^/v([0-9]+)/(.*)", "/v12/x", ""},
	} {
		table := buildRules(t, "- "+tt.pattern+" -")
		q := ask("", tt.path, "")
		f, ok := table.Match(q)
		if !ok {
			t.Errorf("%s does not match %s", tt.pattern, tt.path)
			continue
		}
		if from, to := f.Star(q.Path); string(q.Path[from:to]) != tt.want {
			t.Errorf("%s of %s: the last star is %q, want %q", tt.pattern, tt.path, q.Path[from:to], tt.want)
		}
		switch groups := f.Groups(q.Path); {
		case tt.pattern[0] != '~' && groups != nil:
			t.Errorf("%s has groups %v", tt.pattern, groups)
		case tt.pattern[0] == '~' && (len(groups) != 6 || tt.path[groups[2]:groups[3]] != "12" || tt.path[groups[4]:groups[5]] != "x"):
			t.Errorf("%s: groups are %v", tt.pattern, groups)
		}
		if tt.pattern[0] != '~' {
			if n := testing.AllocsPerRun(20, func() { f.Star(q.Path) }); n != 0 {
				t.Errorf("%s: %v allocations", tt.pattern, n)
			}
		}
	}
}

func TestNeeds(t *testing.T) {
	for expression, want := range map[string]need{
		"^/v([0-9]+)/":        {prefix: "/v", middle: "/"},
		"^(/api)/x$":          {prefix: "/api/x", suffix: "/api/x"},
		`\.php$`:              {suffix: ".php"},
		"^/a$":                {prefix: "/a", suffix: "/a"},
		"a|b":                 {},
		"(?i)^/admin":         {},
		"foo.*barbaz.*x":      {middle: "barbaz"},
		"(?:^/a)?/b":          {middle: "/b"},
		"^/x|^/y":             {},
		"(?m)^/a$":            {middle: "/a"},
		`^/a(?:/b)*`:          {prefix: "/a"},
		`/(\.git|\.svn)(/|$)`: {middle: "/."},
	} {
		if got := needOf(expression); got != want {
			t.Errorf("%s: got %+v, want %+v", expression, got, want)
		}
	}
}
