package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mpgate/bench/figures"
)

// Nginx finds nginx; given is a path or "".
func Nginx(ctx context.Context, given string) (*Peer, error) {
	path, err := find(given, "nginx")
	if err != nil {
		return nil, err
	}
	out, err := output(ctx, path, "-v")
	if err != nil {
		return nil, fmt.Errorf("%s -v: %w: %s", path, err, out)
	}
	_, version, _ := strings.Cut(firstLine(out), "nginx/")
	return &Peer{Name: "nginx", Program: path, Version: version, plan: planNginx, native: nginxMultipath(ctx, path)}, nil
}

// nginxMultipath asks nginx whether it knows `listen … multipath`: versions and forks differ in
// when they learned it.
func nginxMultipath(ctx context.Context, path string) bool {
	dir, err := os.MkdirTemp("", "mpgate-bench-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "probe.conf")
	text := fmt.Sprintf("pid %s/pid; error_log stderr; events {} http { access_log off; server { listen 127.0.0.1:1 multipath; } }\n", dir)
	if os.WriteFile(conf, []byte(text), 0o600) != nil {
		return false
	}
	out, _ := output(ctx, path, "-t", "-p", dir, "-c", conf)
	return !strings.Contains(out, "invalid parameter")
}

func planNginx(p *Peer, s Setup) (Plan, error) {
	listen := s.Listen + " backlog=4096"
	pl := Plan{Args: []string{p.Program, "-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf")}}
	switch {
	case s.Transport.Front() && !s.Transport.Back() && p.native:
		listen += " multipath"
	case s.Transport.Front():
		// nginx itself knows MPTCP for listening only.
		if err := pl.mptcpize(s); err != nil {
			return Plan{}, err
		}
	}
	accessLog := "access_log off;"
	if s.LogFile != "" {
		accessLog = fmt.Sprintf("access_log %s combined buffer=64k flush=1s;", s.LogFile)
		pl.Notes = append(pl.Notes, "access log: its own format \"combined\", buffered (64k, 1 s)")
	}
	tls := ""
	if s.Cert != "" {
		listen += " ssl"
		if s.H2 && nginxOldHTTP2(p.Version) {
			listen += " http2"
		} else if s.H2 {
			tls = "\n    http2 on;"
		}
		tls += fmt.Sprintf(`
    ssl_certificate %s;
    ssl_certificate_key %s;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;`, s.Cert, s.Key)
	}
	pl.Files = []File{{"nginx.conf", fmt.Sprintf(`daemon off;
worker_processes %d;
pid %s/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 200000;
events { worker_connections %d; }
http {
  %s
  server_tokens off;
  gzip off;
  tcp_nodelay on;
  keepalive_timeout 600s;
  # 1000 by default: then it would be the only one that closes connections while it is measured.
  keepalive_requests 1000000000;
  client_body_temp_path %s/body;
  proxy_temp_path %s/proxy;
  upstream origin {
    server %s;
    keepalive %d;
    keepalive_requests 1000000000;
  }
  server {
    listen %s;%s
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      # %s
      %s
    }
  }
}
`, s.Workers, s.Dir, s.Connections*2+1024, accessLog, s.Dir, s.Dir, s.Backend, max(256, min(s.Connections*2, 1024)), listen, tls,
		nginxBuffersWhy(s.Body), nginxBuffers(s.Body))}}
	return pl, nil
}

// nginxOldHTTP2 says that HTTP/2 is a parameter of listen: before 1.25.1 there was no directive for
// it.
func nginxOldHTTP2(version string) bool {
	var major, minor, patch int
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
	return major*1_000_000+minor*1000+patch < 1_025_001
}

func nginxBuffersWhy(body int64) string {
	return "Buffers that take an answer of " + figures.Size(body) + ", and no temporary files."
}

// nginxBuffers: the default is 8 of 4k, which an answer of 100 KiB fills several times over.
func nginxBuffers(body int64) string {
	switch {
	case body <= 16<<10:
		return "proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_max_temp_file_size 0;"
	default:
		return "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0;"
	}
}
