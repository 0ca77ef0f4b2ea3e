//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

// proxyCmd is the peer that everybody has: net/http's server and httputil.ReverseProxy, set up as
// well as its options allow.
type proxyCmd struct {
	Listen     string
	Backend    string
	MptcpFront bool
	MptcpBack  bool
	Log        string
	Cert       string
	Key        string
	H2         bool `name:"h2"`
	Burn       time.Duration
}

func (c proxyCmd) Run(ctx context.Context) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(c.MptcpFront)
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	var h http.Handler = c.handler()
	if c.Burn > 0 {
		inner, work := h, newBurner()
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			work.burn(c.Burn)
			inner.ServeHTTP(w, r)
		})
	}
	if c.Log != "" {
		f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		h = newAccessLog(ctx, h, f)
	}
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 600 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	if !c.H2 {
		s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if c.Cert != "" {
		err = s.ServeTLS(l, c.Cert, c.Key)
	} else {
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (c proxyCmd) handler() *httputil.ReverseProxy {
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(c.MptcpBack)
	target := &url.URL{Scheme: "http", Host: c.Backend}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext:           d.DialContext,
			DisableCompression:    true,
			MaxIdleConns:          0,
			MaxIdleConnsPerHost:   4096, // 2 by default: most connections would be used once
			IdleConnTimeout:       60 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
		},
		BufferPool: &buffers{},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
}

// buffers lets ReverseProxy reuse its copying buffers.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// accessLog writes the common log format, buffered as nginx is: 64 KiB or a second.
type accessLog struct {
	next http.Handler

	mu  sync.Mutex
	out *bufio.Writer
}

func newAccessLog(ctx context.Context, next http.Handler, to io.Writer) *accessLog {
	a := &accessLog{next: next, out: bufio.NewWriterSize(to, 64<<10)}
	go func() { // ends with the process
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for ctx.Err() == nil {
			<-t.C
			a.mu.Lock()
			_ = a.out.Flush()
			a.mu.Unlock()
		}
	}()
	return a
}

func (a *accessLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := &counting{ResponseWriter: w, status: http.StatusOK}
	start := time.Now()
	a.next.ServeHTTP(seen, r)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.out, "%s - - [%s] \"%s %s %s\" %d %d %q %q\n", host, start.Format("02/Jan/2006:15:04:05 -0700"),
		r.Method, r.RequestURI, r.Proto, seen.status, seen.bytes, r.Referer(), r.UserAgent())
}

type counting struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counting) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach what is beneath.
func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
