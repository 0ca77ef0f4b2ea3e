package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mpgate/task"
)

// Options say where the server listens and what it shows. Only Address is needed.
type Options struct {
	Address string // unix:/path or host:port
	// instead of opening Address: an inherited listener; its unix socket is not removed by Close
	Listener net.Listener
	// for an upgrade: another process serves the unix path, and continues until TakePlace
	Succeed bool

	Metrics prometheus.Gatherer // nil: no /metrics
	Status  func() any          // what /api/status encodes, usually a Status; nil: an empty one
	// the reasons why it is not ready; nil: ready as long as it serves
	Ready func() (bool, []string)
	// Handlers are more of the API, by ServeMux pattern such as "POST /api/reload". On host:port
	// only those for GET and HEAD can be reached.
	Handlers map[string]http.Handler

	Logger *slog.Logger // nil: nothing is logged

	HeaderTime time.Duration // for a request's head; 5 s
	// for a request and for its response; 30 s. A handler can extend it with
	// http.ResponseController
	Time  time.Duration
	Conns int // at once; 128
}

// Server is an admin server whose address is open.
type Server struct {
	o        Options
	http     *http.Server
	listener net.Listener
	place    *place // of a unix socket that was opened here, or nil
}

// Open listens. Connections wait until Serve.
func Open(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HeaderTime <= 0 {
		o.HeaderTime = 5 * time.Second
	}
	if o.Time <= 0 {
		o.Time = 30 * time.Second
	}
	if o.Conns <= 0 {
		o.Conns = 128
	}
	s := &Server{o: o, listener: o.Listener}
	if u, ok := s.listener.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	if s.listener == nil {
		var err error
		if s.listener, s.place, err = listen(ctx, o.Address, o.Succeed); err != nil {
			return nil, err
		}
		if !o.Succeed {
			if err = s.TakePlace(); err != nil {
				s.listener.Close()
				s.place.leave()
				return nil, err
			}
		}
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: o.HeaderTime,
		ReadTimeout:       o.Time,
		WriteTimeout:      o.Time,
		IdleTimeout:       2 * o.Time,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is where the server listens, in the form of Options.Address.
func (s *Server) Addr() string {
	a := s.listener.Addr()
	if a.Network() == "unix" {
		return "unix:" + strings.TrimPrefix(s.o.Address, "unix:")
	}
	return a.String()
}

// TakePlace moves the socket of this server to its unix path; see Options.Succeed. It may be called
// twice.
func (s *Server) TakePlace() error {
	if s.place == nil {
		return nil
	}
	return s.place.take()
}

// Serve serves until Close, or until ctx ends, which aborts requests in progress.
func (s *Server) Serve(ctx context.Context) error {
	stop := task.AfterDone(ctx, "admin: end", func() { s.http.Close() })
	defer stop()
	err := s.http.Serve(&limitListener{Listener: s.listener, slots: make(chan struct{}, s.o.Conns), closed: make(chan struct{})})
	s.place.leave()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// Close accepts no more requests and returns when those in progress are answered; when ctx ends, it
// aborts them. It always closes the socket, and removes its path if it was created here.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	s.listener.Close() // if Serve was never called
	s.place.leave()
	if err != nil {
		return fmt.Errorf("admin: requests were aborted: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	if s.o.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.o.Metrics, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelWarn),
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: 8,
			EnableOpenMetrics:   true,
		}))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /api/status", s.status)
	mux.Handle("GET /{$}", page("index.html"))
	mux.Handle("GET /page.css", page("page.css"))
	mux.Handle("GET /page.js", page("page.js"))
	for pattern, h := range s.o.Handlers {
		mux.Handle(pattern, h)
	}
	if s.listener.Addr().Network() == "unix" {
		profiles(mux)
		return common(guardBrowser(guarded(mux)))
	}
	return common(guard(configuredName(s.o.Address), guarded(mux)))
}

// profiles serves what `go tool pprof` asks for. Profiles reveal what a gateway handles and cost it
// time, so only the unix socket serves them.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
}

// ready answers balancers, which use only the status.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.o.Ready != nil {
		if ok, reasons := s.o.Ready(); !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintf(w, "not ready: %s\n", strings.Join(reasons, "; "))
			return
		}
	}
	_, _ = io.WriteString(w, "ready\n")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	var v any = Status{}
	if s.o.Status != nil {
		v = s.o.Status()
	}
	if st, ok := v.(Status); ok {
		st.Writable = s.listener.Addr().Network() == "unix"
		v = st
	}
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "status: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// guarded reports a panic of a handler and closes its connection, as net/http does.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if task.Call("admin: "+r.Method+" "+r.URL.Path, func() { next.ServeHTTP(w, r) }) != nil {
			// net/http aborts silently: what was sent must not look complete
			panic(http.ErrAbortHandler)
		}
	})
}

// common sets the header fields of every response, and a default content type.
func common(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
