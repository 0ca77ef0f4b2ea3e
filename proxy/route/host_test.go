package route

import "testing"

func TestHosts(t *testing.T) {
	table := buildRules(t, "*.example.org - -", "cloud.* - -", "cloud.eu.* - -", "10.* - -", "cloud.example.org,www.example.org /x -", "- /any -")
	for _, tt := range []struct{ host, path, want string }{
		{"cloud.example.org", "/x", "cloud.example.org,www.example.org /x -"},
		{"www.example.org", "/x", "cloud.example.org,www.example.org /x -"},
		{"cloud.example.org", "/y", "*.example.org - -"}, // before cloud.*
		{"cloud.example.com", "/", "cloud.* - -"},
		{"cloud.example.co.uk", "/", "cloud.* - -"}, // one label or several
		{"cloud.org", "/", "cloud.* - -"},
		{"cloud.eu.example.com", "/", "cloud.eu.* - -"},
		{"cloud.eu", "/", "cloud.* - -"},
		{"cloud.europe", "/", "cloud.* - -"},
		{"cloud", "/any", "- /any -"},
		{"clouds.org", "/", ""},
		{"my.cloud.org", "/", ""},
		{"10.1.2.3", "/", "10.* - -"},
		{"a.b.example.org", "/", ""},
		{"", "/any", "- /any -"},
	} {
		if got := table.match(ask(tt.host, tt.path, "web")); got != tt.want {
			t.Errorf("%s%s: got %q, want %q", tt.host, tt.path, got, tt.want)
		}
	}
}
