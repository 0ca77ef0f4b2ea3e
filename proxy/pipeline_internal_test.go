package proxy

import (
	"math"
	"testing"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
)

type bodyFilter struct{ wraps bool }

func (bodyFilter) Name() string { return "body" }

func (f bodyFilter) FilterBody(_ *filter.Request, _ *message.Response, w message.BodyWriter) message.BodyWriter {
	if f.wraps {
		return struct{ message.BodyWriter }{w}
	}
	return w
}

// A body that no filter looks at goes to the client's codec itself, which can splice it.
func TestBodyWithoutFilterIsDirect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chain  filter.Chain
		direct bool
	}{
		{"no filters", filter.Chain{}, true},
		{"filters of requests", filter.Compile(filter.MaxForwards{}), true},
		{"a filter that leaves this body alone", filter.Compile(bodyFilter{}), true},
		{"a filter of this body", filter.Compile(bodyFilter{wraps: true}), false},
	} {
		p := New(Options{})
		l := p.NewListener("web", ListenerOptions{})
		x, down := newExchange(), new(explained)
		x.begin(&client{proxy: p, listener: l}, down, time.Now())
		x.chain = &tt.chain
		x.resp.Status = 200
		if err := x.sendHead(time.Now()); err != nil {
			t.Fatal(err)
		}
		if direct := x.out == message.BodyWriter(down); direct != tt.direct {
			t.Errorf("%s: direct %v, want %v", tt.name, direct, tt.direct)
		}
	}
}

// An empty chain costs nothing that allocates.
func TestEmptyChainAllocatesNothing(t *testing.T) {
	x := newExchange()
	var c filter.Chain
	if n := testing.AllocsPerRun(100, func() {
		c.Request(&x.filter)
		c.Replace(&x.filter, 200, false)
		c.Response(&x.filter, &x.resp)
		c.End(&x.filter)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// An action that panics leaves the room that it took.
func TestPanicReleasesRoom(t *testing.T) {
	room := &Room{Free: func() int64 { return math.MaxInt64 }}
	p := New(Options{Room: room})
	l := p.NewListener("web", ListenerOptions{})
	key, err := template.Parse("{method}")
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []Action{&Files{}, &Forward{Backend: new(backend.Backend), Key: key}} {
		x := newExchange()
		x.filter.Request = nil // so that the evaluation of the key panics
		x.begin(&client{proxy: p, listener: l}, new(explained), time.Now())
		x.route = &Route{Name: "all", Action: action}
		x.req.Method = []byte("GET")
		x.down = nil // causes the panic
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T: no panic", action)
				}
			}()
			action.serve(x)
		}()
		if n := room.inFlight.Load(); n != 0 {
			t.Errorf("%T: %d exchanges are still counted", action, n)
		}
	}
}
