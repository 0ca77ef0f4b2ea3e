package gateway

import (
	"context"
	"net"
	"os"
	"time"

	"mpgate/admin"
	"mpgate/config"
	"mpgate/listener"
)

// adminServer is the admin server and its socket.
type adminServer struct {
	*admin.Server
	tcp *net.TCPListener // nil for a unix socket
}

// openAdmin opens the admin address. A default address that cannot be opened is a warning.
func (g *Gateway) openAdmin(ctx context.Context, cfg *config.Config) (*adminServer, error) {
	if cfg.Admin.Off {
		return nil, nil
	}
	s, err := g.listenAdmin(ctx, &cfg.Admin.Address)
	switch {
	case err == nil:
		return s, nil
	case cfg.Admin.Written:
		return nil, g.fault(cfg, "admin.address", err)
	}
	g.log.Warn("no admin address: mpgate status, health and reload cannot reach this gateway", "address", cfg.Admin.Address.String(), "err", err)
	return nil, nil
}

func (g *Gateway) listenAdmin(ctx context.Context, a *config.Address) (*adminServer, error) {
	s := &adminServer{}
	o := admin.Options{
		Address: a.String(), Metrics: g.metrics.Registry(), Status: g.statusAny, Ready: g.Ready,
		Handlers: g.handlers(), Logger: g.log, Succeed: g.options.Parent != nil && g.state.Load() == starting,
	}
	if !a.IsUnix() {
		l := g.options.Inherited.TakeListener(ctx, o.Address)
		if l == nil {
			var lc net.ListenConfig
			lc.SetMultipathTCP(false) // administration must not depend on MPTCP
			var err error
			if l, err = lc.Listen(ctx, "tcp", o.Address); err != nil {
				return nil, err
			}
		}
		o.Listener = l
		s.tcp, _ = l.(*net.TCPListener)
	}
	var err error
	if s.Server, err = admin.Open(ctx, o); err != nil && o.Listener != nil {
		_ = o.Listener.Close()
	}
	return s, err
}

// takeOverAdminAddress moves the admin address from the previous process to this one.
func (g *Gateway) takeOverAdminAddress() {
	s := g.admin.Load()
	if s == nil {
		return
	}
	if err := s.TakePlace(); err != nil {
		g.log.Error("mpgate status, health and reload cannot reach this gateway", "err", err)
	}
}

// AdminAddress is the address of status and metrics, "" for none.
func (g *Gateway) AdminAddress() string {
	if s := g.admin.Load(); s != nil {
		return s.Addr()
	}
	return ""
}

// swapAdmin activates the next admin server, and lets the old one finish its requests.
func (g *Gateway) swapAdmin(next *adminServer) {
	if next != nil {
		g.tasks.run("admin", next.Serve)
	}
	if old := g.admin.Swap(next); old != nil {
		g.tasks.run("old admin address", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_ = old.Close(ctx)
			return nil
		})
	}
}

// file duplicates the socket for the process that takes it over; nil if that opens its own.
func (s *adminServer) file() (*os.File, error) {
	if s == nil || s.tcp == nil {
		return nil, nil
	}
	return listener.Dup(s.tcp, "admin")
}
