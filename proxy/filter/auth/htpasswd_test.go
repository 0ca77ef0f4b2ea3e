package auth

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// Hashes of "secret", as other programs write them: htpasswd -nbB, and argon2 with -id -e.
const (
	bcryptSecret = "$2y$05$TPaCeGkWlYrXfmdx4jw4zeLmpGEl5R0yWm4WbMRE9R2ZPOGyW3wIS"
	argonSecret  = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$RIjkYcJBCQb+XBSGLV2qqYlLn0vDBbgkvgxN2Q/Zdfk"
)

func bcryptOf(t testing.TB, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestParseUsers(t *testing.T) {
	hash := bcryptOf(t, "secret", 4)
	table, err := parseUsers([]byte("# users\r\n\r\n  \nalice:" + hash + "\r\nbob:" + hash + ":a comment\nzoë x:" + HashPassword([]byte("secret"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "zoë x"} {
		u := table.byName[name]
		if u == nil || !u.hash.matches([]byte("secret"), 1) || u.hash.matches([]byte("other"), 1) {
			t.Errorf("%s: the password is not checked", name)
		}
	}
	if len(table.list) != 3 {
		t.Errorf("%d users, want 3", len(table.list))
	}
}

func TestParseUsersFaults(t *testing.T) {
	hash := bcryptOf(t, "secret", 4)
	for in, want := range map[string]string{
		"":                            "there is no user in it",
		"# nobody\n":                  "there is no user in it",
		"\nalice":                     "line 2: missing colon; want USER:HASH",
		":" + hash:                    `line 1: invalid user name ""`,
		"a\x01b:" + hash:              `line 1: invalid user name "a\x01b"`,
		"a\xffb:" + hash:              `line 1: invalid user name "a\xffb"`,
		"a:" + hash + "\na:" + hash:   `line 2: the user "a" is also on line 1`,
		"a:$apr1$x$y":                 `line 1: user "a": an MD5 hash (apr1) is not supported; want bcrypt`,
		"a:$1$x$y":                    "an MD5 hash is not supported",
		"a:{SHA}W6ph5Mm5Pz8GgiULbPg=": "a SHA-1 hash is not supported",
		"a:{SSHA}W6ph5Mm5Pz8GgiULbPg": "a SHA-1 hash is not supported",
		"a:rl0uE7VgZZbG2":             "a DES crypt hash is not supported",
		"a:$6$x$y":                    "a SHA-512 crypt hash is not supported",
		"a:$argon2i$v=19$m=64":        "an argon2i or argon2d hash is not supported",
		"a:$new$x":                    "a hash of unknown kind is not supported",
		"a:hunter2":                   "a password that is not hashed is not supported",
		"a:":                          "a password that is not hashed is not supported",
		"a:" + hash[:59]:              "invalid bcrypt hash",
		"a:" + hash[:59] + "!":        "invalid bcrypt hash",
		"a:$2y$15$" + hash[7:]:        "a bcrypt hash of cost 15 takes too long",
		"a:$2y$31$" + hash[7:]:        "a bcrypt hash of cost 31 takes too long",
		"a:$argon2id$m=64,t=1,p=1$c29tZXNhbHQ$AAAA":                                    "invalid argon2id hash",
		"a:$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 43):         "invalid argon2id hash",
		"a:$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 43):         "invalid argon2id parameters",
		"a:$argon2id$v=19$t=1,m=64,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 43):         "invalid argon2id parameters",
		"a:$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 43): "out of range",
		"a:$argon2id$v=19$m=65536,t=17,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 43):     "out of range",
		"a:$argon2id$v=19$m=64,t=1,p=200$c29tZXNhbHQ$" + strings.Repeat("A", 43):       "out of range",
		"a:$argon2id$v=19$m=64,t=1,p=1$YQ$" + strings.Repeat("A", 43):                  "want a salt of 8 to 64 bytes",
		"a:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AA":                                 "a hash of 16 to 64",
	} {
		_, err := parseUsers([]byte(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), hash[7:50]) {
			t.Errorf("the error quotes a secret: %v", err)
		}
	}
	_, err := parseUsers([]byte(strings.Repeat("x\n", 1000)))
	if n := strings.Count(err.Error(), "\n") + 1; n != maxFaults {
		t.Errorf("%d faults are reported, want %d", n, maxFaults)
	}
}

func TestHashPassword(t *testing.T) {
	a, b := HashPassword([]byte("secret")), HashPassword([]byte("secret"))
	if a == b || !strings.HasPrefix(a, "$argon2id$v=19$m=47104,t=1,p=1$") {
		t.Errorf("%s and %s", a, b)
	}
	h, err := parseHash(a)
	if err != nil || !h.matches([]byte("secret"), 1) || h.matches([]byte("Secret"), 1) || h.matches(nil, 1) {
		t.Error(a, err)
	}
}
