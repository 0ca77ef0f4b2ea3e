package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// HAProxy finds haproxy; given is a path or "".
func HAProxy(ctx context.Context, given string) (*Peer, error) {
	path, err := find(given, "haproxy")
	if err != nil {
		return nil, err
	}
	out, err := output(ctx, path, "-v")
	if err != nil {
		return nil, fmt.Errorf("%s -v: %w: %s", path, err, out)
	}
	_, version, _ := strings.Cut(firstLine(out), "ersion ")
	version, _, _ = strings.Cut(version, " ")
	return &Peer{Name: "haproxy", Program: path, Version: version, plan: planHAProxy, native: haproxyMPTCP(ctx, path)}, nil
}

// haproxyMPTCP asks HAProxy whether it knows addresses of the form mptcp4@….
func haproxyMPTCP(ctx context.Context, path string) bool {
	dir, err := os.MkdirTemp("", "mpgate-bench-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "probe.cfg")
	text := "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend f\n  bind mptcp4@127.0.0.1:1\n"
	if os.WriteFile(conf, []byte(text), 0o600) != nil {
		return false
	}
	_, err = output(ctx, path, "-c", "-f", conf)
	return err == nil
}

func planHAProxy(p *Peer, s Setup) (Plan, error) {
	pl := Plan{Args: []string{p.Program, "-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")}}
	bind, server := s.Listen, s.Backend
	if s.Transport.Front() {
		if p.native {
			bind = "mptcp4@" + bind
			if s.Transport.Back() {
				server = "mptcp4@" + server
			}
		} else if err := pl.mptcpize(s); err != nil {
			return Plan{}, err
		}
	}
	bind += " backlog 4096"
	if s.Cert != "" {
		// One file with both, as HAProxy has always read it.
		alpn := "http/1.1"
		if s.H2 {
			alpn = "h2,http/1.1"
		}
		bind += " ssl crt " + s.Cert + ".pem alpn " + alpn + " ssl-min-ver TLSv1.2"
	}
	log := "no log"
	if s.LogFile != "" {
		log = "log stdout format raw local0\n  option httplog"
		pl.Stdout = s.LogFile
		pl.Notes = append(pl.Notes, "access log: HAProxy cannot write files: it is \"log stdout\" in its own format \"httplog\", standard output being the file. It does not buffer: one write a line")
	}
	pl.Files = []File{{"haproxy.cfg", fmt.Sprintf(`global
  nbthread %d
  # Two files a connection are its rule; with idle ones it needs one, and would refuse to start where few may be open.
  no strict-limits
  maxconn %d
  tune.bufsize %d
defaults
  mode http
  %s
  option http-keep-alive
  http-reuse always
  option splice-auto
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  timeout http-keep-alive 600s
frontend front
  bind %s
  option forwardfor
  http-request set-header X-Forwarded-Proto %s
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  default_backend origin
backend origin
  server origin %s pool-max-conn -1
`, s.Workers, s.Connections+1024, haproxyBuffer(s.Body), log, bind, scheme(s), server)}}
	return pl, nil
}

func scheme(s Setup) string {
	if s.Cert != "" {
		return "https"
	}
	return "http"
}

// haproxyBuffer: 16 KiB is its default; large answers go faster with a larger one.
func haproxyBuffer(body int64) int {
	if body <= 16<<10 {
		return 16 << 10
	}
	return 64 << 10
}
