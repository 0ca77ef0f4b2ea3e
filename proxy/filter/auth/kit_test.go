package auth

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// newRequest is a request with header fields, as "Name: value".
func newRequest(t testing.TB, fields ...string) *filter.Request {
	r := &filter.Request{Request: new(message.Request), Record: new(telemetry.Record), Context: t.Context()}
	r.Record.Client = netip.MustParseAddr("192.0.2.1")
	r.Method = []byte("GET")
	r.Matched = filter.Target{Host: []byte("a.example"), Path: []byte("/p"), Query: []byte("q=1"), HasQuery: true}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.AddName([]byte(name), []byte(value))
	}
	return r
}

// fieldsOf are the values of a field, joined.
func fieldsOf(h *message.Header, name string) string {
	var all []string
	for i := range h.Len() {
		if _, n, v, ok := h.At(i); ok && strings.EqualFold(string(n), name) {
			all = append(all, string(v))
		}
	}
	return strings.Join(all, "|")
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rewrite(t, path, text)
	return path
}

func rewrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil { // nobody sees a part of it
		t.Fatal(err)
	}
}

// eventually waits until is.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// running runs f until the test ends.
func running(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// said is a log.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *said) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func basic(credentials string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

// pool is a running backend with one server.
func pool(t testing.TB, address string) *backend.Backend {
	t.Helper()
	b, err := backend.New(backend.Options{Name: "auth", Servers: []backend.ServerOptions{{Address: address}}})
	if err != nil {
		t.Fatal(err)
	}
	running(t, b.Run)
	return b
}

// sign makes a token.
func sign(t testing.TB, alg string, key any, id string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signText(t, alg, key, id, string(payload))
}

func signText(t testing.TB, alg string, key any, id, payload string) string {
	t.Helper()
	var o jose.SignerOptions
	if id != "" {
		o.WithHeader("kid", id)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, &o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// keySetText is a JSON Web Key Set of public keys, and of secrets.
func keySetText(t testing.TB, keys map[string]any) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, key := range keys {
		if signer, ok := key.(crypto.Signer); ok {
			key = signer.Public()
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
