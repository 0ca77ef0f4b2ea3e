package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// count makes one exchange.
func count(m *ExchangeMeter) {
	m.Start()
	m.End(&Record{Method: []byte("GET"), Status: 200, End: EndOK})
}

// A reload takes what the new generation has before it gives back what the old one had. What stays
// goes on counting. What was removed keeps its counters, and goes on from there when it comes back.
func TestCountersOutliveRemoval(t *testing.T) {
	in := NewInstruments("1")
	stays, goes := in.Exchange("web", "stays"), in.Exchange("web", "goes")
	passed := in.Passthrough("web", "sni")
	server, listener := in.Server("b", "s"), in.Listener("web")
	count(stays)
	count(goes)
	passed.Start()
	server.Connect(TransportTCP, ConnectOK)
	server.Open(1)
	server.Idle(1)
	server.Request(200)
	listener.Opened()
	listener.Closed(ConnReset)
	listener.Handshake("TLS 1.3", false)
	again := in.Exchange("web", "stays")
	if again != stays {
		t.Fatal("the same listener and route have two meters")
	}
	for _, m := range []interface{ Release() }{stays, goes, passed, server, listener} {
		m.Release()
	}
	count(again)
	count(goes) // an exchange of the old generation that ends late
	got := gather(t, in)
	removed := map[string]float64{
		`http_requests_total{code="200",listener="web",method="GET",route="stays"}`:  2,
		`http_requests_total{code="200",listener="web",method="GET",route="goes"}`:   2,
		`http_request_duration_seconds{listener="web",route="goes"}`:                 2,
		`exchanges_total{end="ok",listener="web",route="goes"}`:                      2,
		`exchange_body_bytes_total{direction="in",listener="web",route="goes"}`:      0,
		`exchange_body_bytes_total{direction="out",listener="web",route="sni"}`:      0,
		`backend_requests_total{backend="b",code="200",server="s"}`:                  1,
		`backend_connects_total{backend="b",result="ok",server="s",transport="tcp"}`: 1,
		`backend_first_byte_seconds{backend="b",server="s"}`:                         0,
		`connections_total{end="reset",listener="web"}`:                              1,
		`tls_handshakes_total{listener="web",resumed="false",version="TLS 1.3"}`:     1,
		// not over yet
		`passthrough_connections_open{listener="web",route="sni"}`: 1,
		`backend_connections_open{backend="b",server="s"}`:         1,
		`backend_connections_idle{backend="b",server="s"}`:         1,
	}
	expect(t, got, removed)
	server.Open(-1)
	server.Idle(-1)
	passed.End(&Record{End: EndOK})
	got = gather(t, in)
	for k := range got {
		gauge := strings.Contains(k, "_up{") || strings.Contains(k, "_open{") || strings.Contains(k, "_idle{") || strings.Contains(k, "_in_flight{")
		if gauge && !strings.Contains(k, "stays") {
			t.Errorf("it is removed, and nothing is left to measure: %s", k)
		}
	}

	back := in.Exchange("web", "goes")
	count(back)
	in.Server("b", "s").Request(200)
	in.Listener("web").Opened()
	expect(t, gather(t, in), map[string]float64{
		`http_requests_total{code="200",listener="web",method="GET",route="goes"}`: 3,
		`http_requests_in_flight{listener="web",route="goes"}`:                     0,
		`backend_requests_total{backend="b",code="200",server="s"}`:                2,
		`backend_server_up{backend="b",server="s"}`:                                1,
		`connections_total{end="reset",listener="web"}`:                            1,
		`connections_open{listener="web"}`:                                         1,
	})

	// One release too many does not affect a later holder of the name.
	back.Release()
	back.Release()
	if in.Exchange("web", "goes") != back {
		t.Error("a stale release took a meter away")
	}
}

// Names that change with every reload do not fill the memory: what was removed first is dropped
// first.
func TestRemovedNamesAreBounded(t *testing.T) {
	in := NewInstruments("1")
	kept := in.Exchange("web", "kept")
	count(kept)
	const reloads = 1000
	for i := range reloads {
		for j := range 3 {
			name := fmt.Sprintf("n%d-%d", i, j)
			e, s, l := in.Exchange("web", name), in.Server(name, "s"), in.Listener(name)
			count(e)
			s.Connect(TransportTCP, ConnectOK)
			l.Opened()
			l.Closed(ConnOK)
			e.Release()
			s.Release()
			l.Release()
			in.Exchange("unused-"+name, "").Release()
			in.Server("unused", name).Release()
			in.Listener("unused-" + name).Release()
		}
	}
	for what, n := range map[string]int{
		"routes": len(in.exchanges.known) - 1, "servers": len(in.servers.known), "listeners": len(in.listeners.known),
	} {
		if n != retained {
			t.Errorf("%d %s are kept, want %d", n, what, retained)
		}
	}
	got := gather(t, in)
	expect(t, got, map[string]float64{
		`exchanges_total{end="ok",listener="web",route="kept"}`:                                                  1,
		fmt.Sprintf(`exchanges_total{end="ok",listener="web",route="n%d-2"}`, reloads-1):                         1,
		fmt.Sprintf(`connections_total{end="ok",listener="n%d-2"}`, reloads-1):                                   1,
		fmt.Sprintf(`backend_connects_total{backend="n%d-2",result="ok",server="s",transport="tcp"}`, reloads-1): 1,
	})
	for k := range got {
		if strings.Contains(k, `"n0-0"`) || strings.Contains(k, "unused") {
			t.Errorf("it should have been dropped: %s", k)
		}
	}
	// What comes back in time is not dropped.
	name := fmt.Sprintf("n%d-2", reloads-1)
	back := in.Exchange("web", name)
	for i := range retained + 1 {
		e := in.Exchange("web", fmt.Sprintf("m%d", i))
		count(e)
		e.Release()
	}
	if in.Exchange("web", name) != back {
		t.Error("a meter in use was dropped")
	}
}

// A server that was never dialled has one series: with many servers that is most of them.
func TestUnusedServersHaveOneSeries(t *testing.T) {
	in := NewInstruments("1")
	before := len(gather(t, in))
	for i := range 100 {
		in.Server("b", fmt.Sprint(i))
		in.Exchange("web", fmt.Sprint(i))
	}
	if n := len(gather(t, in)) - before; n != 100 {
		t.Errorf("%d series of 100 servers and 100 routes without use, want 100", n)
	}
}

func TestDeletedGauges(t *testing.T) {
	in := NewInstruments("1")
	in.SetPathUp("a", true)
	in.DeletePath("a")
	in.SetCertificate("c", time.Now())
	in.DeleteCertificate("c")
	for k := range gather(t, in) {
		if strings.HasPrefix(k, "path_up") || strings.HasPrefix(k, "tls_certificate") {
			t.Errorf("deleted, and still there: %s", k)
		}
	}
}
