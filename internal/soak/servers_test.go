package soak

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mpgate/internal/acmetest"
)

// payload is the body of n bytes that belongs to a request, in either direction.
func payload(id string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = id[i%len(id)] + byte(i/len(id)%7)
	}
	return b
}

// handler answers as asked: n bytes of the request's own payload, in one piece or in several, and
// says what it got.
func handler(l *ledger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, ok := numberIn(r.URL.Path)
		if !ok {
			http.Error(w, "no number", 400)
			return
		}
		id := fmt.Sprintf("id-%08d", n)
		if strings.HasSuffix(r.URL.Path, "/ws") {
			l.served(n)
			echo(w, r)
			return
		}
		sum := crc32.NewIEEE()
		size, err := io.Copy(sum, r.Body)
		if err != nil {
			return // the client has left, or the gateway has: who counts it is the client
		}
		l.served(n)
		want, _ := strconv.Atoi(r.URL.Query().Get("n"))
		h := w.Header()
		h.Set("X-Id", id)
		h.Set("X-Got", fmt.Sprintf("%d %08x", size, sum.Sum32()))
		body := payload(id, want)
		if r.URL.Query().Get("pieces") == "" {
			h.Set("Content-Length", strconv.Itoa(want))
			_, _ = w.Write(body)
			return
		}
		for len(body) > 0 {
			k := min(len(body), 1+rand.IntN(8<<10))
			if _, err := w.Write(body[:k]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			body = body[k:]
		}
	})
}

// echo is a WebSocket that says everything back.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, p, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, p) != nil {
			return
		}
	}
}

// serveHTTP runs a server that uses HTTP/1 and HTTP/2, until the test ends.
func serveHTTP(t *testing.T, l *ledger, secure *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(l, secure)
	var done sync.WaitGroup
	done.Go(func() {
		if secure != nil {
			_ = srv.ServeTLS(ln, "", "")
			return
		}
		_ = srv.Serve(ln)
	})
	t.Cleanup(func() { srv.Close(); done.Wait() })
	return ln.Addr().String()
}

func newServer(l *ledger, secure *tls.Config) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(secure != nil)
	p.SetUnencryptedHTTP2(secure == nil)
	return &http.Server{Protocols: &p, Handler: handler(l), TLSConfig: secure}
}

// serverTLS is the TLS of a server for localhost and passed.test, that of a client of passed.test,
// and the file of the CA of both.
func serverTLS(t *testing.T) (server, client *tls.Config, file string) {
	t.Helper()
	ca := acmetest.NewCA(t)
	pair, err := tls.LoadX509KeyPair(ca.PairIn(t.TempDir(), &x509.Certificate{DNSNames: []string{"localhost", "passed.test"}}))
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	acmetest.Replace(t, file, acmetest.CertPEM(ca.Cert))
	return &tls.Config{Certificates: []tls.Certificate{pair}}, &tls.Config{RootCAs: ca.Pool(), ServerName: "passed.test"}, file
}

// mortal is a server that is there for a while, and gone for a while, with all its connections.
func mortal(ctx context.Context, t *testing.T, l *ledger) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = ln.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for alive := ln; ; {
			srv := newServer(l, nil)
			var serving sync.WaitGroup
			serving.Go(func() { _ = srv.Serve(alive) })
			wait(ctx, 2*time.Second)
			stop, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			_ = srv.Shutdown(stop) // in order: what it has begun it ends
			cancel()
			srv.Close()
			serving.Wait()
			wait(ctx, time.Second)
			if ctx.Err() != nil {
				return
			}
			if alive, err = net.Listen("tcp", address); err != nil {
				return // somebody else has the port: it stays dead
			}
		}
	}()
	t.Cleanup(func() { <-done })
	return address
}

// wait is for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// misbehave runs a server that does to each request what its path says.
func misbehave(t *testing.T, l *ledger) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				misbehaveOn(c, l)
			})
		}
	})
	t.Cleanup(func() { cancel(); ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func misbehaveOn(c net.Conn, l *ledger) {
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		n, ok := numberIn(r.URL.Path)
		if !ok {
			return
		}
		l.served(n)
		id := fmt.Sprintf("id-%08d", n)
		how := strings.Split(r.URL.Path, "/")[2]
		if how != "early" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: 2\r\n\r\nok", id)
		switch how {
		case "die":
			return
		case "reset":
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		case "hang":
			_, _ = io.Copy(io.Discard, in)
			return
		case "garbage":
			junk := make([]byte, 1+rand.IntN(4000))
			for i := range junk {
				junk[i] = byte(rand.Uint32())
			}
			_, _ = c.Write(junk)
			return
		case "cut":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: 1000\r\n\r\nshort", id)
			return
		case "chunks":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n", id)
			return
		case "twice": // the second answer is nobody's
			_, _ = io.WriteString(c, whole+"HTTP/1.1 200 OK\r\nX-Id: id-forged\r\nContent-Length: 6\r\n\r\nforged")
		case "early":
			_, _ = io.WriteString(c, whole)
			return
		default:
			_, _ = io.WriteString(c, whole)
		}
	}
}
