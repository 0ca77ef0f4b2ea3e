package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Forward has another server decide on each request: it is asked with a GET that tells of the
// request. An answer with a status of 2xx admits the request, with fields of the answer. 401, 403
// and redirects go to the client. Everything else is an error, and the request is refused.
type Forward struct {
	backend *backend.Backend // nil: only explained
	key     template.Template
	label   string
	url     target.URL
	copy    fields
	send    [][]byte
	timeout time.Duration
	mark    []byte // in CDN-Loop, of the requests that this filter makes
	meter   *telemetry.AuthMeter
}

// ForwardOptions describe a Forward.
type ForwardOptions struct {
	Backend *backend.Backend  // nil: the filter is only asked to explain
	Label   string            // of the server, for explanations
	Key     template.Template // by which the backend chooses a server; see proxy.Forward
	URL     target.URL
	// Copy are the fields that go from an answer that admits a request to that request. Those of
	// clients are removed.
	Copy []string
	// Send are the fields of requests that the server gets; nil: DefaultSend.
	Send    []string
	Timeout time.Duration // of one question, 5 s
	Meter   *telemetry.AuthMeter
}

// DefaultSend are the fields that authentication servers commonly look at.
var DefaultSend = []string{"Accept", "Authorization", "Cookie", "User-Agent", "X-Requested-With"}

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 64 << 10

// NewForward makes a filter.
func NewForward(o ForwardOptions) (*Forward, error) {
	f := &Forward{backend: o.Backend, key: o.Key, label: o.Label, url: o.URL, timeout: o.Timeout, meter: o.Meter}
	setDefault(&f.timeout, 5*time.Second)
	var err error
	if f.copy, err = newFields(o.Copy); err != nil {
		return nil, err
	}
	if o.Send == nil {
		o.Send = DefaultSend
	}
	for _, name := range o.Send {
		if err := CheckField(name); err != nil {
			return nil, err
		}
		f.send = append(f.send, []byte(name))
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	f.mark = append([]byte("auth-"), hex.EncodeToString(id[:])...)
	return f, nil
}

// Name implements filter.Filter.
func (*Forward) Name() string { return "forward_auth" }

// FilterTrailer implements filter.TrailerFilter.
func (f *Forward) FilterTrailer(trailer *message.Header) { f.copy.strip(trailer) }

// asks are used again.
var asks = sync.Pool{New: func() any { return new(backend.Ask) }}

// FilterRequest implements filter.RequestFilter.
func (f *Forward) FilterRequest(r *filter.Request) (done bool) {
	// A server may take another one of several for the user than the one that was admitted.
	if i := r.Header.Index(message.Authorization, 0); i >= 0 && r.Header.Index(message.Authorization, i+1) >= 0 {
		return r.End(filter.Answer{Status: 400, End: telemetry.EndBadRequest, Text: "there is more than one Authorization field"})
	}
	if f.returned(&r.Header) {
		return r.End(filter.Answer{Status: 508, End: telemetry.EndLimit, Text: "forward_auth leads back to itself"})
	}
	if r.Explain != nil {
		f.copy.strip(&r.Header)
		r.Explain(f.note())
		return false
	}
	a := asks.Get().(*backend.Ask)
	a.Reset()
	f.question(r, &a.Request)
	a.Key = r.Append(a.Key[:0], &f.key)
	f.copy.strip(&r.Header)
	var gone atomic.Bool
	a.Timeout, a.MaxBody = f.timeout, maxAnswer
	a.Late = func(abort func()) (stop func()) {
		if r.Client == nil {
			return func() {}
		}
		r.Client.WatchClient(func() { gone.Store(true); abort() })
		return r.Client.StopWatchClient
	}
	err := f.backend.Ask(r.Context, a)
	done = f.decide(r, a, err, gone.Load())
	a.Reset()
	asks.Put(a)
	return done
}

func (f *Forward) decide(r *filter.Request, a *backend.Ask, err error, gone bool) (done bool) {
	status := a.Response.Status
	switch {
	case gone:
		return r.End(filter.Answer{End: telemetry.EndClientGone})
	case err != nil && !(errors.Is(err, backend.ErrBodyTooLarge) && status/100 == 2):
		f.meter.Count(telemetry.AuthFailed)
		return r.End(failure(err))
	case status/100 == 2:
		f.admit(&r.Header, &a.Response.Header)
		f.meter.Count(telemetry.AuthPassed)
		return false
	case status == 401 || status == 403 || status/100 == 3 && status != 304:
		f.meter.Count(telemetry.AuthRefused)
		return f.refuse(r, a)
	}
	f.meter.Count(telemetry.AuthFailed)
	return r.End(filter.Answer{
		Status: 502, End: telemetry.EndBackendInvalid, Text: "the authentication server failed",
	})
}

// failure is the answer to a request on which nobody has decided.
func failure(err error) filter.Answer {
	var fault *message.Error
	var short *backend.ShortError
	switch {
	case errors.As(err, &short):
		return filter.Answer{Status: 503, End: telemetry.EndLimit, Text: "the authentication server cannot be asked at present"}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return filter.Answer{Status: 504, End: telemetry.EndBackendTimeout, Text: "the authentication server did not answer in time"}
	case backend.TimedOut(err):
		return filter.Answer{Status: 504, End: telemetry.EndBackendConnect, Text: "the authentication server did not accept the connection in time"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return filter.Answer{Status: 502, End: telemetry.EndBackendReset, Text: "the authentication server closed the connection without a complete answer"}
	case errors.Is(err, backend.ErrBodyTooLarge):
		return filter.Answer{Status: 502, End: telemetry.EndBackendInvalid, Text: "the answer of the authentication server is too large"}
	case errors.As(err, &fault):
		return filter.Answer{Status: 502, End: telemetry.EndBackendInvalid, Text: "the answer of the authentication server is not valid"}
	}
	return filter.Answer{Status: 502, End: telemetry.EndBackendConnect, Text: "the authentication server could not be reached"}
}

// admit copies fields of the answer to the request, from which those of the client were removed.
func (f *Forward) admit(to, from *message.Header) {
	for i := range from.Len() {
		_, name, value, ok := from.At(i)
		if ok && slices.ContainsFunc(f.copy, func(c []byte) bool { return message.EqualFold(name, c) }) {
			to.AddName(name, value)
		}
	}
}

// passed are the fields of a refusal that the client gets.
var passed = []message.ID{
	message.Location, message.SetCookie, message.WWWAuthenticate, message.ContentEncoding, message.RetryAfter, message.Vary,
}

// refuse passes the server's answer on to the client.
func (f *Forward) refuse(r *filter.Request, a *backend.Ask) bool {
	h := &a.Response.Header
	for i := range h.Len() {
		if id, _, value, ok := h.At(i); ok && slices.Contains(passed, id) {
			r.Fields.Add(id, value)
		}
	}
	answer := filter.Answer{Status: a.Response.Status, End: telemetry.EndUnauthorized, Text: "refused by the authentication server"}
	if answer.Status == 403 {
		answer.End = telemetry.EndDenied
	}
	if len(a.Body) > 0 {
		answer.Body, answer.Type = bytes.Clone(a.Body), string(h.Get(message.ContentType))
		if answer.Type == "" {
			answer.Type = "application/octet-stream"
		}
	} else {
		answer.Bare = answer.Status/100 == 3
	}
	return r.End(answer)
}

// The fields that tell of a request.
var (
	forwardedMethod = []byte("X-Forwarded-Method")
	forwardedURI    = []byte("X-Forwarded-Uri")
)

// told are the fields that the gateway has written itself by now; see proxy/forwarded.go.
var told = []message.ID{
	message.XForwardedFor, message.XForwardedHost, message.XForwardedProto, message.XRealIP, message.XRequestID, message.CDNLoop,
}

// question makes the request to the server. It tells of the path by which the route was found,
// which is the one that a server gets unless the route rewrites it.
func (f *Forward) question(r *filter.Request, q *message.Request) {
	get(q, &f.url)
	from, to := &r.Header, &q.Header
	for i := range from.Len() {
		id, name, value, ok := from.At(i)
		if !ok {
			continue
		}
		if slices.Contains(told, id) || slices.ContainsFunc(f.send, func(s []byte) bool { return message.EqualFold(name, s) }) {
			to.AddName(name, value)
		}
	}
	to.AddName(forwardedMethod, r.Method)
	uri := append(q.Scratch[:0], r.Matched.Path...)
	if r.Matched.HasQuery {
		uri = append(append(uri, '?'), r.Matched.Query...)
	}
	q.Scratch = uri
	to.AddName(forwardedURI, uri)
	to.Add(message.CDNLoop, f.mark)
}

// returned reports whether a request was made by this filter (RFC 8586): the authentication server
// is the gateway itself.
func (f *Forward) returned(h *message.Header) bool {
	for i := h.Index(message.CDNLoop, 0); i >= 0; i = h.Index(message.CDNLoop, i+1) {
		if _, _, value, _ := h.At(i); bytes.Contains(value, f.mark) {
			return true
		}
	}
	return false
}

// note says what the filter would do.
func (f *Forward) note() string {
	note := "forward_auth asks " + f.label
	if len(f.copy) > 0 {
		note += "; only its answer sets " + strings.Join(f.copy.names(), ", ")
	}
	return note
}

// Release gives back what the filter holds in the metrics.
func (f *Forward) Release() { f.meter.Release() }
