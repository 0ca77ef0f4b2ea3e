package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/proxy/message"
)

// A server without TCP_NODELAY that sends session tickets first sends its response after they are
// acknowledged: that must not be delayed.
func TestTicketsOfServersAreAcknowledgedAtOnce(t *testing.T) {
	web := httptest.NewTLSServer(nil) // the handler is never called: the request is incomplete
	defer web.Close()
	b, _ := pool(t, Options{Servers: servers(web.Listener.Addr().String()), TLS: func(string) (*tls.Config, error) {
		return &tls.Config{InsecureSkipVerify: true}, nil
	}})
	_, c, err := b.list()[0].dial(context.Background(), Addresses{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	r := &message.Request{Method: []byte("POST"), Target: []byte("/"), Host: []byte("a.example"), Path: []byte("/"), ContentLength: 1}
	if err := c.WriteHead(r); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadHead(&message.Response{}, time.Now().Add(50*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	quick := 0
	_ = c.link.Raw().Control(func(fd uintptr) { quick, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK) })
	if err != nil || quick == 0 {
		t.Errorf("acknowledgements are delayed (%v)", err)
	}
}
