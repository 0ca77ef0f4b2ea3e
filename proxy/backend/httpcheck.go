package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// checkAgent is the User-Agent of checks.
const checkAgent = "mpgate-check"

// httpCheck sends a request, and looks at the status and the body of the response.
type httpCheck struct {
	method, host string // host "": that of the server
	url          target.URL
	label        string // in errors: GET /healthz
	statuses     []StatusRange
	body         []byte
	timeout      time.Duration
}

func newHTTPCheck(o *CheckOptions) (*httpCheck, error) {
	c := &httpCheck{method: o.Method, host: o.Host, statuses: o.Statuses, body: []byte(o.Body), timeout: o.Timeout}
	if c.method == "" {
		c.method = "GET"
	}
	if len(c.statuses) == 0 {
		c.statuses = []StatusRange{{200, 399}}
	}
	c.label = c.method + " " + o.Path
	var err error
	c.url, err = target.ParsePath(o.Path)
	return c, err
}

func (c *httpCheck) run(ctx context.Context, s *Server) error {
	err := s.checks.kept.exchange(ctx, s, c.timeout, func(a *Ask) { c.prepare(&a.Request, s); a.Discard = len(c.body) == 0 }, c.verify)
	return checkFailure(c.label, c.timeout, err)
}

func (c *httpCheck) prepare(r *message.Request, s *Server) {
	checkRequest(r, s, c.method, c.url.Path, c.host)
	r.Query, r.HasQuery = append(r.Query, c.url.Query...), c.url.HasQuery
}

// checkRequest fills in what all checks have in common. host "": that of the server.
func checkRequest(r *message.Request, s *Server, method, path, host string) {
	r.Version, r.Method, r.Scheme = message.HTTP11, append(r.Method, method...), "http"
	if s.tls != nil {
		r.Scheme = "https"
	}
	if host == "" {
		host = target.ServerHost(s.Host())
	}
	r.Host, r.Path = append(r.Host, host...), append(r.Path, path...)
	r.Header.AddString(message.UserAgent, checkAgent)
}

// verify looks at a response whose body was read, or as much of it as is allowed.
func (c *httpCheck) verify(a *Ask) error {
	status := a.Response.Status
	for _, r := range c.statuses {
		if r.First <= status && status <= r.Last {
			if !bytes.Contains(a.Body, c.body) {
				return &checkError{fmt.Sprintf("%s: the response does not contain %q", c.label, c.body)}
			}
			return nil
		}
	}
	return &checkError{fmt.Sprintf("%s: status %d; want %s", c.label, status, rangesText(c.statuses))}
}

func rangesText(list []StatusRange) string {
	var texts []string
	for _, r := range list {
		t := fmt.Sprint(r.First)
		if r.Last != r.First {
			t += fmt.Sprint("-", r.Last)
		}
		texts = append(texts, t)
	}
	return strings.Join(texts, ", ")
}

// checkFailure describes the error of a check. Those of connects stay as they are.
func checkFailure(label string, timeout time.Duration, err error) error {
	var verdict *checkError
	var connect *connectError
	switch {
	case err == nil, errors.As(err, &verdict), errors.Is(err, context.Canceled), isShortage(err):
		return err
	case errors.As(err, &connect):
		return connect.err
	case timedOut(err):
		return &checkError{fmt.Sprintf("%s: no answer within %v", label, timeout)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &checkError{label + ": the server closed the connection without a complete response"}
	}
	return &checkError{label + ": " + err.Error()}
}
