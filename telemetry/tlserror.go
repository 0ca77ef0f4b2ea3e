package telemetry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
)

// TLSError is why a handshake failed, as a label.
type TLSError uint8

const (
	TLSOther           TLSError = iota
	TLSTimeout                  // not completed in time
	TLSClientGone               // the client closed or reset
	TLSNotTLS                   // another protocol
	TLSNoCertificate            // no certificate for that name (yet)
	TLSNoCommonVersion          // no version in common
	// no cipher suite, group, signature or application protocol in common
	TLSNoCommonParameters
	TLSClientCertificate // missing or not accepted
	// the client sent an alert, such as for a certificate it does not trust
	TLSRejected
	tlsErrorCount
)

var tlsErrorNames = [tlsErrorCount]string{
	"other", "timeout", "client_gone", "not_tls", "no_certificate", "version", "parameters", "client_certificate", "rejected",
}

func (e TLSError) String() string {
	if e >= tlsErrorCount {
		e = TLSOther
	}
	return tlsErrorNames[e]
}

// TLSErrorOf classifies the error of a server's handshake. crypto/tls has no types for most errors,
// so it compares their texts; tests with real handshakes check them. A certificate source with
// errors of its own returns TLSNoCertificate itself.
func TLSErrorOf(err error) TLSError {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return TLSTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return TLSClientGone
	case errors.As(err, &record):
		return TLSNotTLS
	case errors.As(err, &verify):
		return TLSClientCertificate
	case err == nil:
		return TLSOther
	}
	text := err.Error()
	for _, t := range tlsErrorTexts {
		if strings.Contains(text, t.part) {
			return t.reason
		}
	}
	return TLSOther
}

var tlsErrorTexts = []struct {
	part   string
	reason TLSError
}{
	{"remote error: tls", TLSRejected},
	{"client didn't provide a certificate", TLSClientCertificate},
	{"client certificate", TLSClientCertificate},
	{"no certificates configured", TLSNoCertificate},
	{"offered only unsupported versions", TLSNoCommonVersion},
	{"no cipher suite supported by both", TLSNoCommonParameters},
	{"no ECDHE curve supported by both", TLSNoCommonParameters},
	{"no key exchanges supported by both", TLSNoCommonParameters},
	{"requested unsupported application protocols", TLSNoCommonParameters},
	{"peer doesn't support any of the certificate's signature algorithms", TLSNoCommonParameters},
}
