package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.show)
	mux.HandleFunc("/headers", s.headers)
	mux.HandleFunc("/events", s.events)
	mux.HandleFunc("/slow", s.slow)
	mux.HandleFunc("/large", s.large)
	mux.HandleFunc("/echo", s.echo)
	mux.HandleFunc("/ws", s.ws)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/tcp"); ok && (rest == "" || rest[0] == '/') {
			r.URL.Path = "/" + strings.TrimPrefix(rest, "/")
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, s.see(r))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = text.Execute(w, s.see(r))
}

func (s *Server) headers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(s.see(r))
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	flush := http.NewResponseController(w)
	now := time.Now()
	for n := 1; ; n++ {
		fmt.Fprintf(w, "id: %d\ndata: %s from %s\n\n", n, now.Format(time.RFC3339Nano), s.Name)
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case now = <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) slow(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "seconds", 3, 3600)
	if !ok {
		return
	}
	select {
	case <-time.After(time.Duration(n) * time.Second):
		fmt.Fprintf(w, "%s thought about it for %d s\n", s.Name, n)
	case <-r.Context().Done(): // the client left, and the gateway closed the connection
	}
}

func (s *Server) large(w http.ResponseWriter, r *http.Request) {
	mib, ok := number(w, r, "mib", 100, 1<<20)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(int64(mib)<<20, 10))
	piece := make([]byte, 64<<10)
	for i := range piece {
		piece[i] = byte(i)
	}
	for range mib << 4 {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func (s *Server) echo(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if err := c.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if err := c.Flush(); err != nil {
				return
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return
		default:
			panic(http.ErrAbortHandler) // the incomplete response must not look complete
		}
	}
}

func (s *Server) ws(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// number reads a parameter from 0 to limit. If it is invalid, number writes the response and
// returns false.
func number(w http.ResponseWriter, r *http.Request, name string, def, limit int) (int, bool) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit {
		http.Error(w, fmt.Sprintf("invalid %s (got %q); a whole number from 0 to %d", name, s, limit), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}
