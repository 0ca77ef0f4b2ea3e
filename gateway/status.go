package gateway

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode"

	"mpgate/admin"
	"mpgate/config"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

// Status returns the present state of the gateway.
func (g *Gateway) Status() admin.Status {
	gen := g.gen.Load()
	s := admin.Status{
		Version: g.options.Version, PID: os.Getpid(), Started: g.started, Generation: gen.number, Draining: int(g.draining.Load()),
		State: [...]string{"starting", "ready", "draining"}[g.state.Load()],
	}
	if len(gen.config.Files) > 0 {
		s.Config = gen.config.Files[0]
	}
	if r := g.reload.Load(); r != nil {
		s.Reload = *r
	}
	_, s.Reasons = g.Ready()
	host := mptcp.Host()
	s.MPTCP = admin.MPTCP{
		Usable: host.Usable, Enabled: gen.config.MPTCP.Enabled && !mptcp.Disabled(), Why: host.Why, Remedy: host.Remedy, Kernel: host.Kernel,
	}
	for _, l := range gen.config.Listeners {
		s.Listeners = append(s.Listeners, gen.listeners[l.Name].status(&l))
	}
	for _, c := range g.certs.Status() {
		one := admin.Certificate{Name: c.Name, NotAfter: c.NotAfter, Issuer: c.Issuer}
		if c.Err != nil {
			one.Error = c.Err.Error()
		}
		s.Certificates = append(s.Certificates, one)
	}
	for _, b := range gen.config.Backends {
		s.Backends = append(s.Backends, gen.backends[b.Name].status(&b))
	}
	return s
}

func (g *Gateway) statusAny() any { return g.Status() }

func (f *front) status(l *config.Listener) admin.Listener {
	out := admin.Listener{Name: l.Name, MPTCP: l.MPTCP.String(), TLS: l.TLS != nil}
	for _, s := range f.sockets.Sockets() {
		out.Sockets = append(out.Sockets, admin.Socket{
			Address: s.Address, Transport: s.Transport.String(), Inherited: s.Origin != 0, Why: s.Why, Reserve: s.Reserve,
		})
	}
	return out
}

func (p *pool) status(b *config.Backend) admin.Backend {
	out := admin.Backend{Name: b.Name, Balance: string(b.Balance), MPTCP: b.MPTCP.String()}
	out.Names = nameStatus(p.Backend)
	for _, s := range p.Status() {
		one := admin.BackendServer{
			Address: s.Address, Up: !s.Down, Transport: s.Transport, Reason: s.Reason, InProgress: s.InProgress, Idle: s.Idle,
		}
		if s.Down {
			one.Why = oneLine(s.Why)
			if s.Unreachable {
				one.Why = "could not be reached: " + one.Why
			}
		}
		if s.Admin != backend.AdminUp {
			one.Asked = s.Admin.String()
		}
		if s.Slow < 1 {
			one.Share = math.Round(100*s.Slow) / 100
		}
		out.Servers = append(out.Servers, one)
	}
	return out
}

// oneLine makes the text of an error, which may contain data from a server, safe for a terminal.
func oneLine(s string) string {
	const most = 300
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// handlers are the API of the admin address.
func (g *Gateway) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /api/paths":    http.HandlerFunc(g.servePaths),
		"POST /api/server":  http.HandlerFunc(g.serveServer),
		"POST /api/reload":  http.HandlerFunc(g.serveReload),
		"POST /api/upgrade": http.HandlerFunc(g.serveUpgrade),
	}
}

// serveReload answers when the reload is complete: 200, or 422 with one error per line.
func (g *Gateway) serveReload(w http.ResponseWriter, r *http.Request) {
	notReopened := g.ReopenLogs()
	err := g.Reload(r.Context())
	var faults config.Errors
	switch {
	case err == nil:
		_, _ = io.WriteString(w, "reloaded\n"+g.notAsPreferred())
		if notReopened != nil {
			_, _ = fmt.Fprintf(w, "cannot reopen log file: %v\n", notReopened)
		}
	case errors.As(err, &faults):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// notAsPreferred lists the sockets that do not use the configured transport, one per line, with the
// remedy.
func (g *Gateway) notAsPreferred() (text string) {
	gen := g.gen.Load()
	for i := range gen.config.Listeners {
		for _, s := range gen.listeners[gen.config.Listeners[i].Name].sockets.Sockets() {
			if s.Why != "" {
				text += fmt.Sprintf("listener %s: %s uses %s: %s; remedy: %s\n", s.Listener, s.Address, s.Transport, s.Why, s.Remedy)
			}
		}
	}
	return text
}

// Warnings are those of the active configuration.
func (g *Gateway) Warnings() []config.Fault { return slices.Clone(g.gen.Load().config.Warnings) }
