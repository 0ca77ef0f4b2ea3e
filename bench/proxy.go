//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/peers"
	"mpgate/bench/procs"
	"mpgate/bench/result"
)

// proxy is one that runs.
type proxy struct {
	*procs.Process
	peer  *peers.Peer
	setup peers.Setup
	plan  peers.Plan
	began time.Time     // its exec
	ready time.Duration // from then to its first answer
	spoke backSide      // all that it was seen to open towards the backend
	coded int64         // the length of its answer's body if that had a content coding
	how   string        // that coding
}

// backSide is how a proxy's connections reached the backend, since it was started.
type backSide struct{ tcp, mptcp, fallback int64 }

// setup is what a peer is to do in a case; connections is the most that clients will open.
func (b *bench) setupFor(c *result.Case, connections int) (peers.Setup, error) {
	backend, err := b.origin.address(c.Transport)
	if err != nil {
		return peers.Setup{}, err
	}
	b.serial++
	dir := filepath.Join(b.scratch, strconv.Itoa(b.serial))
	s := peers.Setup{
		Dir: dir, Backend: backend, Transport: c.Transport, Workers: b.workers(), Connections: connections,
		Body: c.Body, Mptcpize: b.tools.mptcpize, Root: filepath.Join(b.scratch, "www"), Path: c.Path, Fields: c.Fields,
	}
	if c.Log {
		s.LogFile = filepath.Join(dir, "access.log")
	}
	if c.Protocol != "h1" {
		s.Cert, s.Key, s.H2 = b.cert.cert, b.cert.key, c.Protocol == "h2 tls"
	}
	return s, nil
}

// start runs a peer until it answers requests. A port that somebody took meanwhile is tried again
// elsewhere.
func (b *bench) start(ctx context.Context, p *peers.Peer, c *result.Case, connections int) (*proxy, error) {
	var err error
	for range 3 {
		var s peers.Setup
		if s, err = b.setupFor(c, connections); err != nil {
			return nil, err
		}
		if s.Listen, err = freePort(); err != nil {
			return nil, err
		}
		var run *proxy
		if run, err = b.startAt(ctx, p, s); err == nil {
			return run, nil
		}
		if !strings.Contains(err.Error(), "in use") {
			break
		}
	}
	return nil, err
}

func (b *bench) startAt(ctx context.Context, p *peers.Peer, s peers.Setup) (*proxy, error) {
	r, err := b.launch(ctx, p, s)
	if err != nil {
		return nil, err
	}
	if err := r.await(ctx, 5*time.Millisecond); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// launch writes a proxy's files and starts it.
func (b *bench) launch(ctx context.Context, p *peers.Peer, s peers.Setup) (*proxy, error) {
	plan, err := p.Plan(s)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range plan.Files {
		if err := os.WriteFile(filepath.Join(s.Dir, f.Name), []byte(f.Text), 0o644); err != nil {
			return nil, err
		}
	}
	if len(plan.Check) > 0 {
		if out, err := exec.CommandContext(ctx, plan.Check[0], plan.Check[1:]...).CombinedOutput(); err != nil {
			_ = os.RemoveAll(s.Dir)
			return nil, fmt.Errorf("check refuses its configuration: %s", said(strings.ReplaceAll(string(out), s.Dir+"/", "")))
		}
	}
	r := &proxy{peer: p, setup: s, plan: plan, began: time.Now()}
	r.Process, err = b.group.Start(procs.Spec{Args: plan.Args, Env: plan.Env, Dir: s.Dir, Stdout: plan.Stdout, CPUs: b.ProxyCPUs})
	return r, err
}

func (r *proxy) stop() {
	r.Stop(5 * time.Second)
	_ = os.RemoveAll(r.setup.Dir)
}

// freePort asks the kernel for a port of the loopback that nobody has.
func freePort() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startTimeout bounds how long a proxy may take to answer its first request.
const startTimeout = 15 * time.Second

// await tries until the proxy answers a request, every so often.
func (r *proxy) await(ctx context.Context, every time.Duration) error {
	allowed := startAllowance(r.plan)
	ctx, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	client := r.client()
	defer client.CloseIdleConnections()
	for {
		err := r.saysReady(ctx)
		if err == nil {
			err = r.answers(ctx, client)
		}
		if err == nil {
			r.ready = time.Since(r.began)
			return nil
		}
		select {
		case <-r.Done():
			return fmt.Errorf("it ended at once: %s", said(r.Output()))
		case <-ctx.Done():
			return fmt.Errorf("no answer after %v (%w): %s", allowed, err, said(r.Output()))
		case <-tick.C:
		}
	}
}

func said(output string) string {
	output = strings.TrimSpace(output)
	if output == "" {
		return "it said nothing"
	}
	if len(output) > 600 {
		output = "…" + output[len(output)-600:]
	}
	return strings.ReplaceAll(output, "\n", "; ")
}

func (r *proxy) client() *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
	}}
}

// saysReady asks mpgate's admin socket; the others have none.
func (r *proxy) saysReady(ctx context.Context) error {
	if r.plan.Ready == "" {
		return nil
	}
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.plan.Ready)
		},
	}}
	_, _, err := fetch(ctx, c, "http://admin/readyz")
	return err
}

// answers makes one request through the proxy and checks what comes back.
func (r *proxy) answers(ctx context.Context, c *http.Client) error {
	scheme := "http"
	if r.setup.Cert != "" {
		scheme = "https"
	}
	path := r.setup.Path
	if path == "" {
		path = fmt.Sprintf("/bytes/%d", r.setup.Body)
	}
	n, coding, err := fetch(ctx, c, scheme+"://"+r.setup.Listen+path, r.setup.Fields...)
	switch {
	case err != nil:
	case coding != "":
		r.coded, r.how = n, coding
	case n != r.setup.Body:
		err = fmt.Errorf("an answer of %d bytes; want %d", n, r.setup.Body)
	}
	return err
}

// fetch gives the length of a body, and its content coding.
func fetch(ctx context.Context, c *http.Client, url string, fields ...string) (n int64, coding string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	n, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d; want 200", url, resp.StatusCode)
	}
	return n, resp.Header.Get("Content-Encoding"), err
}
