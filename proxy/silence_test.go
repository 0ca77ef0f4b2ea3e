package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
)

const (
	silenceLimit = 3 * time.Second // a busy machine stalls for less
	silenceTick  = silenceLimit / 8
	silenceTicks = 12 // half as long again as the limit
)

// silenceGateway has an idle time of silenceLimit on both sides, and a server that speaks HTTP/1
// and HTTP/2 without TLS.
func silenceGateway(t *testing.T, minRate int64, protocol backend.Protocol, serve http.HandlerFunc) *gateway {
	t.Helper()
	return startBefore(t, setup{
		mode: plain, options: proxy.Options{Limits: proxy.Limits{IdleTime: silenceLimit, MinRate: minRate}},
		listener: proxy.ListenerOptions{H2C: true},
		backend:  backend.Options{IdleTimeout: silenceLimit, Protocol: protocol},
	}, plainServer(t, serve))
}

// trickle writes a byte at each tick, until it cannot.
func trickle(w io.Writer, flush func() error) error {
	tick := time.NewTicker(silenceTick)
	defer tick.Stop()
	for range silenceTicks {
		<-tick.C
		if _, err := w.Write([]byte("x")); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

func noFlush() error { return nil }

// trickleAll writes a byte at each tick, and closes w.
func trickleAll(w io.WriteCloser) error {
	defer w.Close()
	return trickle(w, noFlush)
}

// fullDuplex lets a handler answer before it has read the request.
func fullDuplex(w http.ResponseWriter) *http.ResponseController {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	return rc
}

// countAfterHead answers with the length of the request's body, and sends the head before it reads
// that.
func countAfterHead(w http.ResponseWriter, r *http.Request) {
	_ = fullDuplex(w).Flush()
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n, err)
}

// interim sends an interim response for each piece that is written.
type interim struct{ w http.ResponseWriter }

func (i interim) Write(p []byte) (int, error) {
	i.w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	i.w.WriteHeader(http.StatusEarlyHints)
	return len(p), nil
}

// silence is an exchange in which one direction is silent.
type silence struct {
	serve  http.HandlerFunc
	upload func(w io.WriteCloser) error // nil: nothing is sent, nor is the end
	answer string
	end    string // of the log line
}

var silences = map[string]silence{
	"a client that only listens": {
		serve: func(w http.ResponseWriter, _ *http.Request) {
			rc := fullDuplex(w)
			_ = trickle(w, rc.Flush)
		},
		answer: "xxxxxxxxxxxx", end: "ok",
	},
	"an upload below an early head": {
		serve: countAfterHead,
		upload: func(w io.WriteCloser) error {
			defer w.Close()
			return trickle(writer{w, 4 << 10}, noFlush)
		},
		answer: "49152 <nil>", end: "ok",
	},
	"heartbeats below an early head": {
		serve:  countAfterHead,
		upload: trickleAll,
		answer: "12 <nil>", end: "ok",
	},
	"interim responses": {
		serve: func(w http.ResponseWriter, r *http.Request) {
			fullDuplex(w)
			if trickle(interim{w}, noFlush) == nil {
				fmt.Fprint(w, "done")
			}
		},
		answer: "done", end: "ok",
	},
	"heartbeats both ways": {
		serve: func(w http.ResponseWriter, r *http.Request) {
			rc := fullDuplex(w)
			if trickle(w, rc.Flush) == nil {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, err)
			}
		},
		upload: trickleAll,
		answer: "xxxxxxxxxxxx12 <nil>", end: "ok",
	},
	"silence of both": {
		serve: func(w http.ResponseWriter, r *http.Request) {
			rc := fullDuplex(w)
			_, _ = io.WriteString(w, "x")
			_ = rc.Flush()
			_, _ = io.Copy(io.Discard, r.Body) // until the gateway has ended it
		},
		answer: "x", end: "timeout",
	},
}

// In an exchange that moves in both directions, silence and slowness in one of them are no fault
// while the other one moves; in all pairings of protocols.
func TestSilenceOfOneDirection(t *testing.T) {
	t.Parallel()
	for name, s := range silences {
		for _, two := range []bool{false, true} {
			for protocol, spoken := range map[backend.Protocol]string{backend.HTTP1: "h1", backend.HTTP2: "h2"} {
				t.Run(fmt.Sprintf("%s/h2 in front %v/%s behind", name, two, spoken), func(t *testing.T) {
					t.Parallel()
					s.run(t, two, protocol)
				})
			}
		}
	}
}

// run sends the request, over HTTP/2 with two.
func (s silence) run(t *testing.T, two bool, protocol backend.Protocol) {
	g := silenceGateway(t, 1000, protocol, s.serve)
	in, out := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), proxytest.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+g.addr+"/", in)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		if s.upload != nil {
			sent <- s.upload(out)
			return
		}
		sent <- nil
	}()
	resp, err := pairClient(t, two).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if string(body) != s.answer || (err == nil) != (s.end == "ok") {
		t.Errorf("got %q, %v; want %q", body, err, s.answer)
	}
	out.Close()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	l := g.log.Next()
	if s.end == "ok" {
		want(t, "end", l.End, "ok")
	} else {
		contains(t, "end", l.End, s.end)
	}
}

// writer writes n bytes for each.
type writer struct {
	w io.Writer
	n int
}

func (w writer) Write(p []byte) (int, error) {
	if _, err := w.w.Write(make([]byte, w.n*len(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
