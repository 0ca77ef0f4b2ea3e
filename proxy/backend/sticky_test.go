package backend

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
)

func stickyBackend(t testing.TB, key string, list ...ServerOptions) *Backend {
	t.Helper()
	b, err := New(Options{Name: "b", Servers: list, Sticky: StickyOptions{Cookie: "srv", Key: []byte(key)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Discard)
	return b
}

// stickTo sends a request with cookies, and returns the server and the cookie that the response
// sets.
func stickTo(b *Backend, cookies ...string) (server, set string) {
	var h message.Header
	for _, c := range cookies {
		h.AddString(message.Cookie, c)
	}
	var a Attempt
	a.Reset(b)
	a.FindCookie(&h)
	if !a.next(time.Now(), nil) {
		return "", ""
	}
	if !a.NeedsCookie() {
		return a.Server().Address, ""
	}
	value, _, _ := strings.Cut(string(a.SetCookie(false)), ";")
	return a.Server().Address, value
}

func TestSticky(t *testing.T) {
	one, two, three := ServerOptions{Address: "10.0.0.1:80"}, ServerOptions{Address: "10.0.0.2:80"}, ServerOptions{Address: "10.0.0.3:80"}
	b := stickyBackend(t, "key", one, two, three)
	cookies := map[string]string{} // by server
	for range 3 {
		server, set := stickTo(b)
		cookies[server] = set
	}
	if len(cookies) != 3 {
		t.Fatalf("three requests without a cookie went to %v", cookies)
	}
	for server, cookie := range cookies {
		for range 5 {
			if got, set := stickTo(b, "a=b; "+cookie); got != server || set != "" {
				t.Errorf("the cookie of %s led to %s, and the response sets %q", server, got, set)
			}
		}
	}

	t.Run("a server that is down", func(t *testing.T) {
		b := stickyBackend(t, "key", one, two)
		breaks(b.list()[0])
		if got, set := stickTo(b, cookies[one.Address]); got != two.Address || set != cookies[two.Address] {
			t.Errorf("got %s and %q, want the other server and its cookie", got, set)
		}
	})
	t.Run("another configuration, process or gateway", func(t *testing.T) {
		b := stickyBackend(t, "key", ServerOptions{Address: "10.0.0.9:80"}, three, one)
		for _, server := range []string{one.Address, three.Address} {
			if got, set := stickTo(b, cookies[server]); got != server || set != "" {
				t.Errorf("the cookie of %s led to %s, and the response sets %q", server, got, set)
			}
		}
		if got, set := stickTo(b, cookies[two.Address]); got == "" || !strings.HasPrefix(set, "srv=") {
			t.Errorf("the cookie of a server that was removed led to %q, and the response sets %q", got, set)
		}
	})
	t.Run("another key", func(t *testing.T) {
		b := stickyBackend(t, "another key", one)
		if _, set := stickTo(b, cookies[one.Address]); set == "" {
			t.Error("a cookie that was signed with another key is accepted")
		}
	})
	t.Run("weight 0 and backup", func(t *testing.T) {
		drained, spare := one, two
		drained.Weight, spare.Backup = -1, true
		b := stickyBackend(t, "key", drained, spare, three)
		for _, server := range []string{one.Address, two.Address} {
			if got, set := stickTo(b, cookies[server]); got != server || set != "" {
				t.Errorf("the cookie of %s led to %s, and the response sets %q", server, got, set)
			}
		}
		for range 10 {
			if got, _ := stickTo(b); got != three.Address {
				t.Errorf("a request without a cookie went to %s", got)
			}
		}
	})
	t.Run("not valid, several", func(t *testing.T) {
		good := cookies[two.Address]
		forged := []byte(good)
		forged[len(forged)-1] ^= 1
		for _, c := range []string{string(forged), "srv=", "srv", "srv=10.0.0.2:80", good + "A", good[:len(good)-1], "SRV" + good[3:]} {
			if _, set := stickTo(b, c); set == "" {
				t.Errorf("%q is accepted", c)
			}
		}
		if got, set := stickTo(b, "srv=x; "+good); got != two.Address || set != "" {
			t.Errorf("after another cookie of that name: %s, %q", got, set)
		}
		if got, set := stickTo(b, "a=b", good); got != two.Address || set != "" {
			t.Errorf("in a second field: %s, %q", got, set)
		}
	})
	t.Run("another server after the first try", func(t *testing.T) {
		var h message.Header
		h.AddString(message.Cookie, cookies[one.Address])
		var a Attempt
		a.Reset(b)
		a.FindCookie(&h)
		a.next(time.Now(), nil)
		a.next(time.Now(), nil)
		if set := string(a.SetCookie(false)); !a.NeedsCookie() || a.Server().Address == one.Address || !strings.HasPrefix(set, cookies[a.Server().Address]) {
			t.Errorf("the second try is of %s, and the response sets %q", a.Server().Address, set)
		}
	})
}

func TestStickyAttributes(t *testing.T) {
	b := stickyBackend(t, "key", ServerOptions{Address: "10.0.0.1:80"})
	for _, secure := range []bool{false, true} {
		var a Attempt
		a.Reset(b)
		a.next(time.Now(), nil)
		c, err := http.ParseSetCookie(string(a.SetCookie(secure)))
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != "srv" || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != secure || c.MaxAge != 0 || !c.Expires.IsZero() {
			t.Errorf("secure %v: got %v", secure, c)
		}
		if strings.Contains(c.Value, "10.0.0.1") || len(c.Value) != tokenLength {
			t.Errorf("the value is %q", c.Value)
		}
	}
}

func TestStickyAllocatesNothing(t *testing.T) {
	b := stickyBackend(t, "key", ServerOptions{Address: "10.0.0.1:80"}, ServerOptions{Address: "10.0.0.2:80"})
	var h message.Header
	h.AddString(message.Cookie, "a=b; srv="+b.list()[1].cookies.token)
	a, now := new(Attempt), time.Now()
	n := testing.AllocsPerRun(1000, func() {
		a.Reset(b)
		a.FindCookie(&h)
		a.next(now, nil)
		a.NeedsCookie()
		a.Reset(b)
		a.next(now, nil)
		a.NeedsCookie()
		a.SetCookie(true)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever a client sends, it reaches a server by the cookie only with the exact value of one, and
// the cookie is found wherever net/http finds it.
func FuzzSticky(f *testing.F) {
	b := stickyBackend(f, "key", ServerOptions{Address: "10.0.0.1:80"}, ServerOptions{Address: "10.0.0.2:80"})
	token := b.list()[1].cookies.token
	for _, s := range []string{"", "srv=" + token, "srv=x; srv=" + token, `srv="` + token + `"`, "srv=" + token + ";", "a=b;srv=" + token, "xsrv=" + token, "srv =" + token} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		var h message.Header
		h.AddString(message.Cookie, field)
		s := b.members.Load().sticky.find(&h)
		if s != nil && (s.cookies.token == "" || !strings.Contains(field, s.cookies.token)) {
			t.Errorf("%q leads to %s", field, s.Address)
		}
		list, err := http.ParseCookie(field)
		if err != nil || strings.ContainsFunc(field, func(r rune) bool { return r < ' ' || r > '~' }) {
			return // net/http is stricter or laxer with some of these
		}
		n := 0
		for _, c := range list {
			if c.Name != "srv" {
				continue
			}
			if n++; c.Value == token && n <= maxCookies && s == nil {
				t.Errorf("%q has the cookie, and it is not found", field)
			}
		}
	})
}
