package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Result is the outcome of a handshake, as the label of a counter.
type Result string

const (
	ResultOK Result = "ok"
	// ResultChallenge was a CA that proved a name (tls-alpn-01): close the
	// connection.
	ResultChallenge Result = "acme_challenge"
	// ResultUnknownName and ResultNoCertificate were refused with the alert
	// unrecognized_name: a name that is not configured, and one for which no
	// certificate could be obtained yet.
	ResultUnknownName   Result = "unknown_name"
	ResultNoCertificate Result = "no_certificate"
	// ResultClientCertificate: none was sent, or it was not acceptable.
	ResultClientCertificate Result = "client_certificate"
	// ResultNoCommon: no version, suite, group or protocol in common.
	ResultNoCommon Result = "no_common"
	// ResultNotTLS: the first bytes were not TLS; see tls.RecordHeaderError for how to respond.
	ResultNotTLS     Result = "not_tls"
	ResultClientGone Result = "client_gone"
	// ResultClientAlert: the client refused, most often for it does not trust the
	// certificate.
	ResultClientAlert Result = "client_alert"
	ResultTimeout     Result = "timeout"
	// ResultFailed is any other error.
	ResultFailed Result = "error"
)

// Done must be called once after each handshake, with its state and error. It
// returns the policy that the connection came by, which it keeps for its life,
// and calls Hooks.Handshake.
func (s *Set) Done(cs *tls.ConnectionState, err error) (PolicyID, Result) {
	p := s.shape.lookupName(cs.ServerName)
	r := s.result(p, cs, err)
	if f := s.m.o.Hooks.Handshake; f != nil {
		f(s.listener, r)
	}
	if r != ResultOK {
		return 0, r
	}
	return p.id, ResultOK
}

func (s *Set) result(p *policy, cs *tls.ConnectionState, err error) Result {
	if err == nil {
		if cs.NegotiatedProtocol == ALPNChallenge {
			return ResultChallenge
		}
		return ResultOK
	}
	text := err.Error()
	if strings.HasSuffix(text, "tls: no certificates configured") { // unexported in crypto/tls
		if cs.ServerName == "" || p.covers(cs.ServerName) || p != s.shape.def {
			return ResultNoCertificate
		}
		return ResultUnknownName
	}
	return classify(err, text)
}

func classify(err error, text string) Result {
	var (
		record tls.RecordHeaderError
		verify *tls.CertificateVerificationError
		san    *ClientCertError
		op     *net.OpError
	)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return ResultTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ResultClientGone
	case errors.As(err, &record):
		return ResultNotTLS
	case errors.As(err, &verify), errors.As(err, &san), strings.Contains(text, "didn't provide a certificate"):
		return ResultClientCertificate
	case errors.As(err, &op) && op.Op == "remote error":
		return ResultClientAlert
	}
	for _, part := range []string{"offered only unsupported versions", "older than TLS 1.3", "no cipher suite supported", "no key exchanges supported", "no supported elliptic curves", "unsupported application protocols", "doesn't support any of the certificate"} {
		if strings.Contains(text, part) {
			return ResultNoCommon
		}
	}
	return ResultFailed
}
