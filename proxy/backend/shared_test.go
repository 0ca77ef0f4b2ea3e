package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// h2c returns the address of a server that uses HTTP/2 without TLS.
func h2c(t *testing.T) string {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.Protocols = &p
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestDialsBesideTheEnd: after a reload has replaced a backend, exchanges that have begun on it
// dial again, for example since their server goes away, while its Run waits for the connections
// there are. Each may be the first after the last has ended.
func TestDialsBesideTheEnd(t *testing.T) {
	address := h2c(t)
	for range 30 {
		b, err := New(Options{Name: "b", Servers: servers(address), Protocol: HTTP2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, replace := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		if _, _, err := open(t, b); err != nil {
			t.Fatal(err)
		}
		replace()
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() {
				for range 10 {
					if _, _, err := open(t, b); err != nil {
						t.Errorf("open: %v", err)
					}
				}
			})
		}
		load.Wait()
		select {
		case <-ended:
		case <-time.After(proxytest.Patience):
			t.Fatal("Run does not end")
		}
	}
}

// TestPanicOfADial: a request that waits for the dial of another one fails when that dial panics.
func TestPanicOfADial(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	var once atomic.Bool
	goOn := make(chan bool)
	b, _ := pool(t, Options{Servers: servers(s.Listener.Addr().String()), Protocol: HTTP2, TLS: func(string) (*tls.Config, error) {
		return &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
			if once.CompareAndSwap(false, true) {
				<-goOn
				panic("verify")
			}
			return nil
		}}, nil
	}})
	outcomes := make(chan any, 2)
	ask := func() {
		var a Attempt
		a.Reset(b)
		defer func() {
			if v := recover(); v != nil {
				outcomes <- v
			}
		}()
		_, err := a.Open(context.Background(), &Request{Now: time.Now()})
		outcomes <- err
	}
	go ask()
	proxytest.Within(proxytest.Patience, once.Load)
	go ask()
	if !proxytest.Within(proxytest.Patience, func() bool {
		stacks := make([]byte, 1<<20)
		_, found := waitingInOpenShared(string(stacks[:runtime.Stack(stacks, true)]))
		return found
	}) {
		t.Fatal("the second request does not wait for the connection of the first")
	}
	goOn <- true
	var panicked, failed bool
	for range 2 {
		select {
		case v := <-outcomes:
			err, _ := v.(error)
			panicked, failed = panicked || v == "verify", failed || errors.Is(err, ErrInternal)
		case <-time.After(proxytest.Patience):
			t.Fatal("a request does not end")
		}
	}
	if !panicked || !failed {
		t.Errorf("the first panicked: %t, the second failed: %t", panicked, failed)
	}
}

// waitingInOpenShared finds a goroutine that waits in openShared.
func waitingInOpenShared(stacks string) (string, bool) {
	for one := range strings.SplitSeq(stacks, "\n\n") {
		if lines := strings.SplitN(one, "\n", 3); len(lines) > 1 && strings.Contains(lines[0], "[select") && strings.Contains(lines[1], ").openShared(") {
			return one, true
		}
	}
	return "", false
}
