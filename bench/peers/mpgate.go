package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"mpgate/bench/result"
)

// Mpgate describes an mpgate that was built or named.
func Mpgate(ctx context.Context, program string) (*Peer, error) {
	out, err := output(ctx, program, "version")
	if err != nil {
		return nil, fmt.Errorf("%s version: %w: %s", program, err, firstLine(out))
	}
	return &Peer{Name: "mpgate", Program: program, Version: firstLine(out), plan: planMpgate}, nil
}

func planMpgate(p *Peer, s Setup) (Plan, error) {
	conf := filepath.Join(s.Dir, "mpgate.toml")
	admin := filepath.Join(s.Dir, "admin.sock")
	pl := Plan{
		Args:  []string{p.Program, "run", "-c", conf},
		Env:   []string{"GOMAXPROCS=" + strconv.Itoa(s.Workers)},
		Ready: admin,
	}
	log := "off"
	if s.LogFile != "" {
		log = s.LogFile
		pl.Notes = append(pl.Notes, "access log: its JSON format")
	}
	tls := ""
	if s.Cert != "" {
		tls = fmt.Sprintf("\n[listener.tls]\ncertificates = [ { cert = %q, key = %q } ]\n", s.Cert, s.Key)
	}
	protocols := ""
	if s.H2 {
		protocols = "protocols = [\"h1\", \"h2\"]\n"
	}
	mode := map[bool]string{true: "prefer", false: "off"}
	pl.Files = []File{{"mpgate.toml", fmt.Sprintf(`# Metrics, deadlines and limits are on: they always are. Only the limit of time between requests is raised, as it is for the
# others, so that idle connections stay, and the number of connections is what the case needs, as it is for the others.
[log]
level = "warn"
access = %q

[admin]
address = %q

[limits]
idle_time = "600s"
connections = %d

[mptcp]
enabled = %v

[[listener]]
name = "front"
address = %q
mptcp = %q
%s%s
[[route]]
name = "all"
match = { path = "/*" }
backend = "origin"

[[backend]]
name = "origin"
protocol = "h1"
mptcp = %q
servers = [ { address = %q } ]
`, log, "unix:"+admin, s.Connections+1024, s.Transport != result.TCP, s.Listen, mode[s.Transport.Front()], protocols, tls, mode[s.Transport.Back()], s.Backend)}}
	return pl, nil
}
