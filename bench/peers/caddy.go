package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Caddy finds caddy; given is a path or "".
func Caddy(ctx context.Context, given string) (*Peer, error) {
	path, err := find(given, "caddy")
	if err != nil {
		return nil, err
	}
	out, err := output(ctx, path, "version")
	if err != nil {
		return nil, fmt.Errorf("%s version: %w: %s", path, err, out)
	}
	version, _, _ := strings.Cut(firstLine(out), " ")
	return &Peer{Name: "caddy", Program: path, Version: version, plan: planCaddy}, nil
}

func planCaddy(p *Peer, s Setup) (Plan, error) {
	conf := filepath.Join(s.Dir, "Caddyfile")
	pl := Plan{
		Args: []string{p.Program, "run", "--adapter", "caddyfile", "--config", conf},
		// Caddy keeps state in the home directory; a benchmark leaves none there.
		Env: []string{"HOME=" + s.Dir, "XDG_CONFIG_HOME=" + s.Dir, "XDG_DATA_HOME=" + s.Dir, "GOMAXPROCS=" + strconv.Itoa(s.Workers), goMultipath(s)},
	}
	log := ""
	if s.LogFile != "" {
		log = fmt.Sprintf("\n  log {\n    output file %s {\n      roll_disabled\n    }\n  }", s.LogFile)
		pl.Notes = append(pl.Notes, "access log: its own JSON format")
	}
	tls := ""
	if s.Cert != "" {
		tls = fmt.Sprintf("\n  tls %s %s", s.Cert, s.Key)
	}
	pl.Files = []File{{"Caddyfile", fmt.Sprintf(`{
  admin off
  auto_https off
  log default {
    level ERROR
    exclude http.log.access
  }
  servers {
    protocols %s
  }
}
%s://%s {
  bind 127.0.0.1%s%s
  reverse_proxy %s {
    transport http {
      compression off
      keepalive_idle_conns 4096
      keepalive_idle_conns_per_host 4096
    }
  }
}
`, map[bool]string{true: "h1 h2", false: "h1"}[s.H2], scheme(s), s.Listen, tls, log, s.Backend)}}
	return pl, nil
}

// goMultipath sets what Go's listeners and dialers do by default: 0 neither, 1 both, 2 listeners
// only.
func goMultipath(s Setup) string {
	switch {
	case s.Transport.Back():
		return "GODEBUG=multipathtcp=1"
	case s.Transport.Front():
		return "GODEBUG=multipathtcp=2"
	default:
		return "GODEBUG=multipathtcp=0"
	}
}
