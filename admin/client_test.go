package admin

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mpgate/internal/proxytest"
)

func TestClientWithoutGateway(t *testing.T) {
	nobody := proxytest.NewRefusing(t).Address
	for _, address := range []string{nobody, "unix:" + filepath.Join(t.TempDir(), "admin.sock")} {
		err := dial(t, address).Get(t.Context(), "/healthz", nil)
		want := "no gateway answers at " + address + ": check that it is running with this [admin] address"
		if !errors.Is(err, ErrNoGateway) || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if _, err := Dial("off"); err == nil || err.Error() != `admin address (got "off"); unix:/path or host:port` {
		t.Errorf("off: got %v", err)
	}
}

func TestClientNotAllowed(t *testing.T) {
	path := socketPath(t)
	start(t, Options{Address: "unix:" + path})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // who may connect to every socket
		if err := syscall.Setreuid(-1, 65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setreuid(-1, 0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	err := dial(t, "unix:"+path).Get(t.Context(), "/healthz", nil)
	if want := "no gateway answers at unix:" + path + ": permission denied; run as its user or as a member of the socket's group"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// A gateway that listens everywhere is reached by its config's own address.
func TestClientOfWildcard(t *testing.T) {
	s := start(t, Options{Address: "0.0.0.0:0"})
	_, port, _ := net.SplitHostPort(s.Addr())
	for _, address := range []string{"0.0.0.0:" + port, ":" + port} {
		if err := dial(t, address).Get(t.Context(), "/healthz", nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestClientAnswers(t *testing.T) {
	c := dial(t, start(t, Options{Address: "unix:" + socketPath(t), Status: func() any { return "text" }, Handlers: map[string]http.Handler{
		"GET /api/empty": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
		"GET /api/cut": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("5"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})}}).Addr())
	var raw []byte
	if err := c.Get(t.Context(), "/api/status", &raw); err != nil || string(raw) != "\"text\"\n" {
		t.Errorf("got %q, %v", raw, err)
	}
	var status Status
	if err := c.Get(t.Context(), "/api/status", &status); err == nil || !strings.Contains(err.Error(), "/api/status: json: cannot unmarshal string") {
		t.Errorf("another type: got %v", err)
	}
	if err := c.Get(t.Context(), "/api/empty", nil); err == nil || err.Error() != "the gateway answered 418 I'm a teapot" {
		t.Errorf("no body: got %v", err)
	}
	if err := c.Get(t.Context(), "/api/cut", nil); err == nil || !strings.Contains(err.Error(), "the response was truncated") {
		t.Errorf("cut: got %v", err)
	}
	if err := c.Post(t.Context(), "/", func() {}, nil); err == nil {
		t.Error("a function is no JSON")
	}
}
