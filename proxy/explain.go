package proxy

import (
	"io"
	"net/netip"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/http1"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/route"
)

// Question is a request to explain.
type Question struct {
	Head   []byte         // as in HTTP/1, up to and including the empty line
	Peer   netip.AddrPort // the client's address
	TLS    bool           // it comes over TLS
	Policy uint64         // of Policies, with TLS
}

// Explanation is what would happen to a request.
type Explanation struct {
	// Step ended the exchange: one of the steps of an exchange. "" means that none does, and the
	// action of the route answers.
	Step string
	// Filter is the key of the filter that ended the exchange, in the step "filter".
	Filter string
	Route  *Route // nil: none
	// Match says how the route was found. It is empty if the request could not be read.
	Match route.Explanation
	// Matched is the target by which the route was looked up.
	Matched filter.Target
	// Request is as it would be forwarded. It is not complete after the step "request".
	Request *message.Request
	// What the gateway answers, if a step ended the exchange, or the action of the route is to
	// answer. Status 0 is no answer at all.
	Status int
	Reason string
	Header message.Header // of the answer
	Notes  []string       // effects of filters that depend on more than the request
	// Files are the names of the files that the action Files would look for. Fallback says that its
	// fallback answers if there is none.
	Files    []string
	Fallback bool
}

// Explain runs the steps of an exchange at l, and the action of the route if that needs no server.
// Nothing is forwarded, counted or logged. The caller owns the memory of the result.
func (p *Proxy) Explain(l *Listener, q Question) (e Explanation) {
	c := &client{proxy: p, listener: l, limits: p.limits.Load(), socket: q.Peer}
	if q.Peer.IsValid() {
		c.setPeer(q.Peer)
	}
	if q.TLS {
		c.tls = &session{policy: q.Policy}
	}
	down := &explained{head: q.Head, limits: c.limits.http.Limits}
	x := newExchange()
	x.filter.Explain = func(note string) { e.Notes = append(e.Notes, note) }
	x.begin(c, down, time.Now())
	x.read()
	x.match()
	e.Matched = x.target()
	if x.fault == nil {
		e.Match = l.view.Load().Routes.table.Explain(&x.asked)
	}
	if e.Step = x.step(); e.Step == "" {
		switch a := x.route.Action.(type) {
		case *Redirect, *Fixed:
			a.serve(x)
		case *Files:
			e.Files, e.Fallback = a.explain(x)
		}
	}
	if e.Step != "" || down.status != 0 {
		e.Status, e.Reason, e.Header = down.status, x.filter.Answer.Text, down.header
	}
	x.chain.End(&x.filter)
	e.Filter, e.Route, e.Request = x.rec.Filter, x.route, &x.req
	return e
}

// Match returns the route by which connections for a server name are passed through at a listener;
// nil if they are not.
func (p *Passthroughs) Match(name []byte, listener string) *Route {
	if p == nil {
		return nil
	}
	r, _ := p.table.MatchHost(name, listener)
	return r
}

// Explain explains how the route of a server name is found.
func (p *Passthroughs) Explain(name []byte, listener string) route.Explanation {
	return p.table.ExplainHost(name, listener)
}

// explained is the client's side of an exchange that is only explained. It records the head of the
// answer.
type explained struct {
	head   []byte
	limits http1.Limits
	status int
	header message.Header
}

func (d *explained) ReadRequest(r *message.Request, _ time.Time) error {
	_, err := http1.ParseRequest(d.head, r, d.limits)
	return err
}

func (d *explained) WriteHead(r *message.Response) error {
	d.status = r.Status
	for i := range r.Header.Len() {
		if _, name, value, ok := r.Header.At(i); ok {
			d.header.AddName(name, value)
		}
	}
	return nil
}

func (d *explained) HeadSent() bool                          { return d.status != 0 }
func (*explained) Next(bool) ([]byte, error)                 { return nil, io.EOF }
func (d *explained) Body() message.BodyReader                { return d }
func (*explained) BodyDone() bool                            { return true }
func (*explained) BodyStarted() bool                         { return false }
func (*explained) SetProgress(reads, writes *netio.Progress) {}
func (*explained) WriteInterim(*message.Response) error      { return nil }
func (*explained) WriteBody([]byte) error                    { return nil }
func (*explained) End(*message.Header) error                 { return nil }
func (*explained) Flush() error                              { return nil }
func (*explained) SetClose()                                 {}
func (*explained) Interrupt()                                {}
func (*explained) Resume()                                   {}
func (*explained) Watch(func())                              {}
func (*explained) StopWatch()                                {}
func (*explained) Multiplexed() bool                         { return false }
func (*explained) Abort()                                    {}
func (*explained) Err() error                                { return nil }
func (*explained) ResetAs(uint32)                            {}
