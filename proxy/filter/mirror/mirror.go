// Package mirror is the filter that sends copies of requests to another backend and discards the
// answers. The exchange of the client waits for none of that: copies wait in a queue of limited
// length and size, and are dropped if it is full.
package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	randv2 "math/rand/v2"
	"sync"
	"sync/atomic"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/task"
	"mpgate/telemetry"
)

const (
	maxBody   = 64 << 10  // bytes of a request's body
	maxAnswer = 256 << 10 // bytes of an answer's body; its connection ends with more
	maxHeld   = 8 << 20   // bytes of all bodies that are held
	workers   = 32        // copies that are sent at the same time
	waiting   = 128       // copies in the queue
)

// Options describe a Mirror.
type Options struct {
	Backend *backend.Backend  // nil: the filter is only asked to explain
	Name    string            // of the backend
	Ratio   float64           // of the requests that are copied, from 0 to 1
	Key     template.Template // by which the backend chooses a server; see proxy.Forward
	Meter   *telemetry.MirrorMeter
}

// Mirror is the filter. Copies are sent while Run runs.
type Mirror struct {
	backend *backend.Backend
	name    string
	ratio   float64
	key     template.Template
	meter   *telemetry.MirrorMeter
	mark    []byte // in CDN-Loop, of the copies of this filter
	queue   chan *copied
	held    atomic.Int64 // bytes of bodies
}

// New makes a filter.
func New(o Options) *Mirror {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return &Mirror{
		backend: o.Backend, name: o.Name, ratio: o.Ratio, key: o.Key, meter: o.Meter,
		mark: append([]byte("mirror-"), hex.EncodeToString(id[:])...), queue: make(chan *copied, waiting),
	}
}

// Name implements filter.Filter.
func (*Mirror) Name() string { return "mirror" }

// FilterRequest implements filter.RequestFilter.
func (m *Mirror) FilterRequest(r *filter.Request) (done bool) {
	switch {
	case r.Explain != nil:
		r.Explain(fmt.Sprintf("mirror sends a copy of %v%% of the requests to backend %q", m.ratio*100, m.name))
	case r.Upgrade != nil || m.ratio < 1 && randv2.Float64() >= m.ratio || m.returned(&r.Header):
	case r.ContentLength > maxBody:
		m.meter.Count(telemetry.MirrorTooLarge)
	default:
		c := pool.Get().(*copied)
		c.mirror = m
		c.take(r.Request)
		c.ask.Key = r.Append(c.ask.Key[:0], &m.key)
		if r.ContentLength == 0 {
			m.send(c)
			return false
		}
		r.Keep(m, c)
	}
	return false
}

// returned reports whether a request is a copy of this filter (RFC 8586): the backend leads back to
// the route.
func (m *Mirror) returned(h *message.Header) bool {
	for i := h.Index(message.CDNLoop, 0); i >= 0; i = h.Index(message.CDNLoop, i+1) {
		if _, _, value, _ := h.At(i); bytes.Contains(value, m.mark) {
			return true
		}
	}
	return false
}

// FilterRequestBody implements filter.RequestBodyFilter.
func (m *Mirror) FilterRequestBody(r *filter.Request, src message.BodyReader) message.BodyReader {
	c, ok := r.Kept(m).(*copied)
	if !ok {
		return src
	}
	c.src = src
	return c
}

// FilterEnd implements filter.EndFilter. It sends a copy whose body had to come first.
func (m *Mirror) FilterEnd(r *filter.Request) {
	c, ok := r.Kept(m).(*copied)
	switch {
	case !ok:
	case c.refused != telemetry.MirrorSent:
		m.meter.Count(c.refused)
		c.free()
	case !c.whole:
		m.meter.Count(telemetry.MirrorIncomplete)
		c.free()
	default:
		m.send(c)
	}
}

// send puts a copy into the queue.
func (m *Mirror) send(c *copied) {
	select {
	case m.queue <- c:
	default:
		m.meter.Count(telemetry.MirrorDropped)
		c.free()
	}
}

// Run sends copies until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	var group task.Group
	for range workers {
		group.Go("mirror", func() { task.Keep(ctx, "mirror", func() { m.work(ctx) }) }, nil)
	}
	group.Wait()
	return nil
}

func (m *Mirror) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-m.queue:
			m.ask(ctx, c)
		}
	}
}

// ask sends a copy. Whatever the server answers is right, also that it wants no body.
func (m *Mirror) ask(ctx context.Context, c *copied) {
	defer c.free()
	a := &c.ask
	a.Timeout, a.MaxBody, a.Discard = m.backend.ResponseTimeout(), maxAnswer, true
	a.Request.Header.Add(message.CDNLoop, m.mark)
	result := telemetry.MirrorSent
	if err := m.backend.Ask(ctx, a); err != nil && a.Response.Status < 200 {
		result = telemetry.MirrorFailed
	}
	m.meter.Count(result)
}

// Release gives back what the filter holds in the metrics.
func (m *Mirror) Release() { m.meter.Release() }

var pool = sync.Pool{New: func() any { return new(copied) }}
