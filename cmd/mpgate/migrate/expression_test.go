package migrate

import (
	"slices"
	"strings"
	"testing"
)

func TestGlobs(t *testing.T) {
	for expr, want := range map[string]string{
		`\.(?:css|js|woff2?)$`:     "*.css *.js *.woff2 *.woff",
		`\.php$`:                   "*.php",
		`\.php(/|$)`:               "/**/*.php/* *.php",
		`/\.`:                      "/**/.* /**/.*/*",
		`/\.ht`:                    "/**/.ht* /**/.ht*/*",
		`^/(api|v[12])/`:           "/api/* /v1/* /v2/*",
		`^/login$`:                 "/login",
		`^/api`:                    "/api/*",
		`^/img/.*\.png$`:           "/img/**/*.png",
		`^/[^/]+/objects/`:         "/*/objects/*",
		`^/users/.*/avatar$`:       "/users/**/avatar",
		`^/(.*)$`:                  "/*",
		`.*`:                       "/*",
		`^/u/[0-9]+$`:              "",
		`^/x/[^/]+$`:               "",
		`wp-`:                      "",
		`/(data|conf)/.*\.(t|h)$`:  "/**/data/**/*.t /**/data/**/*.h /**/conf/**/*.t /**/conf/**/*.h",
		`^/robots\.txt$|^/humans$`: "/robots.txt /humans",
	} {
		re, err := parseExpression(expr, false)
		if err != nil {
			t.Fatal(err)
		}
		got := globs(re)
		fields := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(fields)
		if !slices.Equal(got, fields) {
			t.Errorf("%s: %q, want %q", expr, got, fields)
		}
	}
}
