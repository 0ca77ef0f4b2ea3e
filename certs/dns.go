package certs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/rfc2136"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	dnsTTL     = time.Minute
	dnsTimeout = 2 * time.Minute
	// dnsCallTime ends a program or webhook that does not return.
	dnsCallTime = 2 * time.Minute
)

var tsigAlgorithms = []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"}

func checkDNS(d *DNS) error {
	n := 0
	for _, set := range []bool{d.Server != "", len(d.Exec) > 0, d.Webhook != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("exactly one of server, exec and webhook must be set (got %d)", n)
	}
	for _, r := range append(slices.Clone(d.Resolvers), d.Server) {
		if r == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(r); err != nil {
			return fmt.Errorf("not host:port (got %q): %w", r, err)
		}
	}
	if d.Server != "" {
		if d.KeyName == "" || d.Key == "" {
			return errors.New("server needs key_name and key: updates are signed (TSIG)")
		}
		if _, err := base64.StdEncoding.DecodeString(d.Key); err != nil {
			return errors.New("key is not base64, as tsig-keygen prints it")
		}
		if d.KeyAlgorithm != "" && !slices.Contains(tsigAlgorithms, strings.TrimSuffix(d.KeyAlgorithm, ".")) {
			return fmt.Errorf("unknown key_algorithm (got %q); one of %s", d.KeyAlgorithm, strings.Join(tsigAlgorithms, ", "))
		}
	}
	if d.Webhook != "" {
		if u, err := url.Parse(d.Webhook); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("webhook is not an http or https URL (got %q)", d.Webhook)
		}
	}
	if len(d.Exec) > 0 {
		if _, err := exec.LookPath(d.Exec[0]); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
	}
	return nil
}

func newDNSSolver(d *DNS, m *Manager) acmez.Solver {
	switch {
	case d.Server != "":
		alg := d.KeyAlgorithm
		if alg == "" {
			alg = "hmac-sha256"
		}
		return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
			DNSProvider:        &rfc2136.Provider{Server: d.Server, KeyName: d.KeyName, KeyAlg: alg, Key: d.Key},
			TTL:                dnsTTL,
			PropagationDelay:   d.Delay,
			PropagationTimeout: d.timeout(),
			Resolvers:          d.Resolvers,
			Logger:             zapLogger(m.log),
		}}
	case d.Webhook != "":
		return &recordSolver{d: d, set: (&webhookSolver{url: d.Webhook, token: d.WebhookToken}).call}
	}
	return &recordSolver{d: d, set: (&execSolver{argv: d.Exec}).call}
}

func (d *DNS) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return dnsTimeout
}

// record is the TXT record to make ("present") or to take away ("cleanup").
type record struct {
	Action string `json:"action"`
	Domain string `json:"domain"` // the identifier, without "*."
	Name   string `json:"name"`   // _acme-challenge.DOMAIN
	Value  string `json:"value"`
}

// recordSolver solves dns-01 with a provider of TXT records. Several values may be wanted for one
// name at once, for example.org and *.example.org.
type recordSolver struct {
	d   *DNS
	set func(context.Context, record) error
}

func recordOf(action string, c acme.Challenge) record {
	return record{action, c.Identifier.Value, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()}
}

func (s *recordSolver) Present(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, dnsCallTime)
	defer cancel()
	return s.set(ctx, recordOf("present", c))
}

func (s *recordSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	// Also when the attempt was cancelled: the record must go.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dnsCallTime)
	defer cancel()
	return s.set(ctx, recordOf("cleanup", c))
}

// Wait waits the delay, and then until every resolver knows the record.
func (s *recordSolver) Wait(ctx context.Context, c acme.Challenge) error {
	if err := pause(ctx, s.d.Delay); err != nil {
		return err
	}
	r := recordOf("", c)
	ctx, cancel := context.WithTimeout(ctx, s.d.timeout())
	defer cancel()
	for _, server := range s.d.Resolvers {
		for {
			err := seen(ctx, server, r)
			if err == nil {
				break
			}
			if pause(ctx, time.Second) != nil {
				return fmt.Errorf("TXT record %s is not visible at %s: %w", r.Name, server, err)
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errOtherRecord = errors.New("it has other values")

func seen(ctx context.Context, server string, r record) error {
	res := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, server)
	}}
	values, err := res.LookupTXT(ctx, r.Name+".")
	if err != nil {
		return err
	}
	if !slices.Contains(values, r.Value) {
		return errOtherRecord
	}
	return nil
}

// execSolver runs a program for each record, without a shell:
//
//	PROGRAM ARG... present|cleanup NAME VALUE
//
// with ACME_ACTION, ACME_DOMAIN (the name that is proved, without "*."),
// ACME_NAME (the TXT record's, _acme-challenge.DOMAIN) and ACME_VALUE added to
// mpgate's environment. NAME is ACME_NAME, VALUE is ACME_VALUE. "present" adds
// the value to those that the name has, and returns 0 when the record is
// there (or will be: see DNS.Delay and DNS.Resolvers); "cleanup" removes that
// value, and returns 0 if it is gone already. Another exit code fails the
// attempt, with the end of what was written to stderr in its error. The
// program is killed after two minutes. It may be called for several names at
// once.
type execSolver struct{ argv []string }

func (s *execSolver) call(ctx context.Context, r record) error {
	cmd := exec.CommandContext(ctx, s.argv[0], append(slices.Clone(s.argv[1:]), r.Action, r.Name, r.Value)...)
	cmd.Env = append(os.Environ(), "ACME_ACTION="+r.Action, "ACME_DOMAIN="+r.Domain, "ACME_NAME="+r.Name, "ACME_VALUE="+r.Value)
	stderr := &tail{}
	cmd.Stderr = stderr
	cmd.WaitDelay = 2 * time.Second // children that keep stderr open
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s %s %s: %w%s", s.argv[0], r.Action, r.Name, err, stderr.text())
	}
	return nil
}

// tail keeps the last KiB of what is written.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - 1024; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	if s := strings.TrimSpace(string(t.b)); s != "" {
		return ": " + s
	}
	return ""
}

// webhookSolver POSTs each record as JSON to a URL,
//
//	{"action":"present","domain":"example.org","name":"_acme-challenge.example.org","value":"…"}
//
// with "Authorization: Bearer TOKEN" where a token is set. An answer of 2xx
// means what exit code 0 means for execSolver; redirects are not followed.
type webhookSolver struct{ url, token string }

func (s *webhookSolver) call(ctx context.Context, r record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	client := &http.Client{
		// One call in weeks: no connection is kept open.
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		end := &tail{}
		io.Copy(end, io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("webhook %s %s: %s%s", r.Action, r.Name, resp.Status, end.text())
	}
	return nil
}
