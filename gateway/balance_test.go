package gateway

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/config"
	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

// Package config and package backend list the same algorithms.
func TestBalances(t *testing.T) {
	for _, name := range config.Balance("").Values() {
		b, err := backend.New(backend.Options{Name: "b", Balance: name, Servers: []backend.ServerOptions{{Address: "127.0.0.1:1"}}})
		if err != nil {
			t.Error(err)
			continue
		}
		b.Discard()
	}
}

// balanceFile is a configuration with one backend, app.
func balanceFile(state, web, keys string, servers ...string) string {
	list := ""
	for _, s := range servers {
		if !strings.Contains(s, "=") {
			s = fmt.Sprintf("address = %q", strings.TrimPrefix(s, "http://"))
		}
		list += "{ " + s + " }, "
	}
	return strings.Replace(head, `"state"`, fmt.Sprintf("%q", state), 1) + "[shutdown]\ndrain = \"300ms\"\n" +
		listenerTable("web", web, "protocols = [\"h1\", \"h2c\"]\ntrusted_proxies = [\"127.0.0.1\"]") + routeTable("all", "", "app") +
		fmt.Sprintf("[[backend]]\nname = \"app\"\nmptcp = \"off\"\n%s\nservers = [ %s]\n", keys, list)
}

// A cookie keeps a client on its server: over reloads that add, move and remove other servers, over
// a restart, and in another gateway with the same key. Without its server the client gets another
// one, and a cookie for it.
func TestStickyCookie(t *testing.T) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", two), func(t *testing.T) {
			names := map[string]string{} // addresses by name
			for _, name := range []string{"a", "b", "c"} {
				names[name] = strings.TrimPrefix(named(t, name), "http://")
			}
			state, web := t.TempDir(), proxytest.FreeAddress(t)
			r := startRig(t, balanceFile(state, web, `sticky = "srv"`, names["a"], names["b"]), nil)
			c := clientOf(t, two)
			// get returns the server, and the cookie that it sets.
			get := func(fields ...string) (server, cookie string) {
				t.Helper()
				resp, body := askWith(t, c, "GET", "http://"+web+"/", fields...)
				if resp.StatusCode != 200 {
					t.Fatalf("status %d: %s", resp.StatusCode, body)
				}
				set := resp.Header["Set-Cookie"]
				if len(set) > 1 {
					t.Fatalf("several cookies: %q", set)
				}
				return body, strings.Join(set, "")
			}
			cookies := map[string]string{} // by server
			for range 2 {
				server, set := get()
				value, attributes, _ := strings.Cut(set, "; ")
				cookies[server] = "Cookie: theme=dark; " + value
				if attributes != "Path=/; HttpOnly; SameSite=Lax" {
					t.Errorf("the attributes of the cookie are %q", attributes)
				}
			}
			if len(cookies) != 2 {
				t.Fatalf("two requests without a cookie went to %v", cookies)
			}
			if _, set := get("X-Forwarded-Proto: https"); !strings.HasSuffix(set, "; Secure") {
				t.Errorf("the cookie for a client that uses TLS is %q", set)
			}
			stays := func(when string, servers ...string) {
				t.Helper()
				for _, want := range servers {
					for range 4 {
						if got, set := get(cookies[want]); got != want || set != "" {
							t.Errorf("%s: the client of %s was sent to %s, with the cookie %q", when, want, got, set)
						}
					}
				}
			}
			stays("at first", "a", "b")
			r.swap(balanceFile(state, web, `sticky = "srv"`, names["c"], names["b"], names["a"]))
			stays("after a server was added", "a", "b")
			r.swap(balanceFile(state, web, "balance = \"hash\"\nsticky = \"srv\"", names["c"], fmt.Sprintf("address = %q, weight = 0", names["b"])))
			stays("with weight 0", "b")
			server, set := get(cookies["a"])
			if server != "c" || set == "" {
				t.Errorf("without its server, a client was sent to %s, with the cookie %q", server, set)
			}
			value, _, _ := strings.Cut(set, ";")
			cookies["c"] = "Cookie: " + value
			stays("on the new server", "c")

			r.end()
			web = proxytest.FreeAddress(t)
			r = startRig(t, balanceFile(state, web, `sticky = "srv"`, names["a"], names["b"], names["c"]), nil)
			stays("after a restart", "a", "b", "c")

			key, err := os.ReadFile(filepath.Join(state, stickyFile))
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(copied, key, 0o600); err != nil {
				t.Fatal(err)
			}
			r.end()
			web = proxytest.FreeAddress(t)
			file := balanceFile(t.TempDir(), web, fmt.Sprintf("sticky = { cookie = \"srv\", key = %q }", copied), names["b"], names["a"], names["c"])
			r = startRig(t, file, nil)
			stays("at another gateway", "a", "b", "c")
			// A key that was replaced is used after the next reload.
			if err := os.WriteFile(copied, []byte(hex.EncodeToString(newKey())), 0o600); err != nil {
				t.Fatal(err)
			}
			r.swap(file)
			if _, set := get(cookies["a"]); set == "" {
				t.Error("the cookie is valid although the key was replaced")
			}
		})
	}
}

// A tunnel brings a cookie, too, and follows one.
func TestStickyTunnel(t *testing.T) {
	web := proxytest.FreeAddress(t)
	startRig(t, balanceFile(t.TempDir(), web, `sticky = "srv"`, echoes(t), echoes(t)), nil)
	open := func(cookie string) (set string) {
		c := proxytest.Dial(t, web, 0)
		c.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n" + cookie + "\r\n")
		head := c.ReadHead().Head
		carries(t, c)
		_, after, found := strings.Cut(head, "Set-Cookie: ")
		if !found {
			return ""
		}
		set, _, _ = strings.Cut(after, ";")
		return set
	}
	first, second := open(""), open("")
	if first == second || first == "" || second == "" {
		t.Errorf("two tunnels brought the cookies %q and %q", first, second)
	}
	for range 3 {
		if set := open("Cookie: " + first + "\r\n"); set != "" {
			t.Errorf("a tunnel with a cookie brought the cookie %q", set)
		}
	}
}

func newKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return key
}

func TestStickyKey(t *testing.T) {
	cfg := &config.Config{StateDir: filepath.Join(t.TempDir(), "state")}
	b := &config.Backend{Sticky: &config.Sticky{Cookie: "srv"}}
	keys := make([]string, 8)
	var wait sync.WaitGroup
	for i := range keys { // as if several gateways started at the same time
		wait.Go(func() {
			key, err := stickyKey(cfg, b)
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(key)
		})
	}
	wait.Wait()
	if slices.Sort(keys); keys[0] != keys[7] || len(keys[0]) < minStickyKey {
		t.Errorf("the keys are %q", keys)
	}
	entries, err := os.ReadDir(cfg.StateDir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("state_dir has %v, %v; want one file", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("the mode of the key is %v (%v)", info.Mode(), err)
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]config.Sticky{
		"sticky.key: " + short + " has 6 bytes; a key must have at least 32":     {Key: short},
		"sticky.key: stat " + short + ".none: no such file or directory":         {Key: short + ".none"},
		"sticky.key: " + filepath.Dir(short) + " is not a regular file":          {Key: filepath.Dir(short)},
		"sticky: needs a key in state_dir: mkdir " + short + ": not a directory": {},
	} {
		_, err := stickyKey(&config.Config{StateDir: short}, &config.Backend{Sticky: &s})
		if s.Key == "" && err != nil && strings.HasPrefix(err.Error(), "sticky: needs a key in state_dir: stat ") {
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Requests with the same key go to the same server, also at another gateway and over HTTP/2.
func TestHashByField(t *testing.T) {
	servers := []string{named(t, "a"), named(t, "b"), named(t, "c"), named(t, "d")}
	keys := "balance = \"hash\"\nhash = \"{header.X-User}\""
	web, other := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	startRig(t, balanceFile(t.TempDir(), web, keys, servers...), nil)
	startRig(t, balanceFile(t.TempDir(), other, keys, servers[3], servers[0], servers[2], servers[1]), nil)
	one, two := clientOf(t, false), clientOf(t, true)
	got := map[string]int{}
	for i := range 40 {
		user := fmt.Sprintf("X-User: user%d", i)
		_, first := askWith(t, one, "GET", "http://"+web+"/", user)
		_, second := askWith(t, two, "GET", "http://"+web+"/other", user)
		_, third := askWith(t, one, "GET", "http://"+other+"/", user)
		if first != second || first != third {
			t.Errorf("user %d was sent to %s, %s and %s", i, first, second, third)
		}
		got[first]++
	}
	if len(got) < 3 {
		t.Errorf("40 users were sent to %v", got)
	}
}

// Three real servers, one of which takes 100 ms: least and latency send it far fewer requests than
// round robin does. The times are logged only: another process may need the processor.
func TestUnequalServers(t *testing.T) {
	for _, balance := range []string{"round_robin", "least", "latency"} {
		t.Run(balance, func(t *testing.T) {
			var slow atomic.Int64
			server := func(name string, takes time.Duration) string {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if takes > 0 {
						slow.Add(1)
						<-time.After(takes)
					}
					_, _ = io.WriteString(w, name)
				}))
				t.Cleanup(s.Close)
				return s.Listener.Addr().String()
			}
			web := proxytest.FreeAddress(t)
			startRig(t, balanceFile(t.TempDir(), web, fmt.Sprintf("balance = %q", balance), server("a", 0), server("b", 0), server("slow", 100*time.Millisecond)), nil)
			const clients, each = 6, 30
			var mu sync.Mutex
			var took []time.Duration
			var wait sync.WaitGroup
			for range clients {
				c := clientOf(t, false)
				wait.Go(func() {
					for range each {
						began := time.Now()
						if resp, err := c.Get("http://" + web + "/"); err != nil {
							t.Error(err)
						} else {
							_, _ = io.Copy(io.Discard, resp.Body)
							_ = resp.Body.Close()
						}
						mu.Lock()
						took = append(took, time.Since(began))
						mu.Unlock()
					}
				})
			}
			wait.Wait()
			slices.SortFunc(took, func(a, b time.Duration) int { return cmp.Compare(a, b) })
			t.Logf("%s: %d of %d requests at the slow server; p50 %v, p90 %v, p99 %v", balance, slow.Load(), len(took), took[len(took)/2], took[len(took)*9/10], took[len(took)*99/100])
			switch n := slow.Load(); {
			case balance == "round_robin" && n != clients*each/3:
				t.Errorf("the slow server got %d of %d requests, want a third", n, clients*each)
			case balance != "round_robin" && n > clients*each/5:
				t.Errorf("the slow server got %d of %d requests, want less than a fifth", n, clients*each)
			}
		})
	}
}

// The requests of filters have the key of the request that they are about: those of one user go to
// one server.
func TestHashOfFilters(t *testing.T) {
	var mu sync.Mutex
	users := map[string]map[string]bool{} // servers by kind and user
	copies := 0
	server := func(kind, name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			key := kind + " " + r.Header.Get("X-User")
			if users[key] == nil {
				users[key] = map[string]bool{}
			}
			users[key][name] = true
			if kind == "shadow" {
				copies++
			}
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	pool := func(kind string) string {
		text := fmt.Sprintf("[[backend]]\nname = %q\nbalance = \"hash\"\nhash = \"{header.X-User}\"\nservers = [", kind)
		for _, name := range []string{"a", "b", "c", "d"} {
			text += fmt.Sprintf(" { address = %q },", server(kind, name))
		}
		return text + " ]\n"
	}
	web := proxytest.FreeAddress(t)
	startRig(t, head+listenerTable("web", web, "")+"[[route]]\nname = \"all\"\nbackend = \"app\"\nmirror = { backend = \"shadow\", percent = 100 }\n"+
		"forward_auth = { backend = \"auth\", send = [\"X-User\"] }\n"+backendTable("app", named(t, "app"), "")+pool("shadow")+pool("auth"), nil)
	const n, each = 10, 4
	for range each {
		for i := range n {
			if resp, body := askWith(t, clientOf(t, false), "GET", "http://"+web+"/", fmt.Sprintf("X-User: user%d", i)); body != "app" {
				t.Fatalf("status %d, %q", resp.StatusCode, body)
			}
		}
	}
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return copies == n*each
	}
	if !proxytest.Within(patience, all) {
		t.Fatalf("%d copies arrived, want %d", copies, n*each)
	}
	used := map[string]bool{}
	for user, servers := range users {
		if len(servers) != 1 {
			t.Errorf("requests of %s went to %v", user, servers)
		}
		for name := range servers {
			used[user[:4]+name] = true
		}
	}
	if len(users) != 2*n || len(used) < 4 {
		t.Errorf("%d keys, at the servers %v", len(users), used)
	}
}
