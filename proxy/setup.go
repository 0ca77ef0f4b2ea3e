package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"time"

	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

// Policies are the TLS policies of a listener, by identity. It is an interface so that a program
// that uses this package need not import the code that obtains certificates.
type Policies interface {
	// ServerConfig is for tls.Server on every connection.
	ServerConfig() *tls.Config
	// Done is called once after each handshake. It returns the policy of the connection;
	// carriesHTTP is false if the handshake failed or was a CA's validation (RFC 8737).
	Done(state *tls.ConnectionState, err error) (policy uint64, carriesHTTP bool)
	// PolicyFor returns the policy for the host of a request.
	PolicyFor(host []byte) uint64
	// Has reports whether a policy is still in use for any name.
	Has(policy uint64) bool
	// Single reports whether all names have the same policy.
	Single() bool
	// Terms returns what the proxy itself does under a policy; nil: nothing.
	Terms(policy uint64) *Terms
}

// Terms are what the proxy does for requests under a TLS policy.
type Terms struct {
	HSTS string // the value of Strict-Transport-Security; "" is none
	// Identity returns the header fields that identify the client by its certificate; nil: none.
	// Their names belong in ListenerOptions.OwnNames of every listener.
	Identity func(*tls.ConnectionState) []Field
}

// Field is a header field.
type Field struct{ Name, Value string }

// ProxyHeader selects whether connections begin with a PROXY header.
type ProxyHeader = preread.ProxyMode

const (
	ProxyOff      = preread.ProxyOff
	ProxyOptional = preread.ProxyOptional
	ProxyRequired = preread.ProxyRequired
)

// session is the state of a connection that uses TLS.
type session struct {
	state  tls.ConnectionState
	policy uint64
	fields []Field // which identify the client
	// As in the access log.
	version, cipher, group string
}

// setup handles what precedes HTTP, or the bytes of a TCP listener: a PROXY header, a connection
// that is passed through, the TLS handshake. It returns the stream that carries these; nil if the
// connection has ended.
func (c *conn) setup(v *view) netio.Stream {
	c.base.ReadBy(c.firstDeadline())
	var ahead netio.Buffer
	defer ahead.Release()
	if v.ProxyHeader != ProxyOff && !c.proxyHeader(v, &ahead) {
		return nil
	}
	if c.limits.perClient > 0 && c.peer.IsValid() {
		if !c.proxy.clients.acquire(c.peer.Addr(), c.limits.perClient) {
			c.end = telemetry.ConnLimit
			return nil
		}
		c.counted = c.peer.Addr()
	}
	if v.Passthrough != nil {
		passed, err := c.passthrough(v, &ahead)
		if passed || err != nil {
			return nil
		}
	}
	if ahead.Len() > 0 {
		c.base.Unread(&ahead)
	}
	if v.TLS == nil {
		return c.base
	}
	return c.handshake(v.TLS)
}

// proxyHeader reads a PROXY header, from peers that may send one. The client's address in it
// replaces the peer's.
func (c *conn) proxyHeader(v *view, ahead *netio.Buffer) bool {
	// The mode of a unix socket decides which peers may connect.
	if c.socket.IsValid() && !containsAddr(v.ProxyHeaderFrom, c.socket.Addr()) {
		if v.ProxyHeader == ProxyOptional {
			return true
		}
		c.end = telemetry.ConnProxyHeader
		return false
	}
	for {
		if err := c.base.Fill(ahead); err != nil {
			c.end = c.waitEnd(err)
			if ahead.Len() > 0 {
				c.end = telemetry.ConnProxyHeader
			}
			return false
		}
		h, n, err := preread.ParseProxy(ahead.Bytes())
		switch {
		case err == nil:
			ahead.Discard(n)
			if h.Known() && h.Source.IsValid() {
				c.setPeer(h.Source)
				c.destination = h.Destination
			}
			return true
		case err == preread.ErrMore:
		case err == preread.ErrNoProxy && v.ProxyHeader == ProxyOptional:
			return true
		default:
			c.err, c.end = err, telemetry.ConnProxyHeader
			return false
		}
	}
}

// handshake terminates TLS. The first deadline limits its time; setup has set it for reads.
func (c *conn) handshake(policies Policies) netio.Stream {
	_ = c.base.SetWriteDeadline(c.firstDeadline())
	defer func() { _ = c.base.SetWriteDeadline(time.Time{}) }()
	h := &handshakeConn{Conn: c.base, slots: c.proxy.handshakes}
	t := tls.Server(h, policies.ServerConfig())
	err := func() error {
		defer h.finish() // also after a panic
		return t.Handshake()
	}()
	state := t.ConnectionState()
	policy, carriesHTTP := policies.Done(&state, err)
	if err != nil {
		c.err = err
		c.meter.HandshakeError(telemetry.TLSErrorOf(err))
		c.end = telemetry.ConnTLS
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.end = telemetry.ConnTimeout
		}
		c.answerPlainHTTP(err)
		if c.base.Held() > 0 { // an alert
			c.linger()
		}
		_ = t.Close()
		return nil
	}
	if !carriesHTTP {
		c.end = telemetry.ConnOK
		_ = t.Close()
		return nil
	}
	s := &session{
		state: state, policy: policy, version: tls.VersionName(state.Version),
		cipher: tls.CipherSuiteName(state.CipherSuite), group: groupName(state.CurveID),
	}
	if terms := policies.Terms(policy); terms != nil && terms.Identity != nil {
		s.fields = terms.Identity(&s.state)
	}
	c.meter.Handshake(s.version, state.DidResume)
	c.tls = s
	return netio.NewTLS(c.base, t)
}

func groupName(id tls.CurveID) string {
	if id == 0 {
		return "" // a session resumed without a key exchange
	}
	return id.String()
}

// answerPlainHTTP answers a client that uses HTTP on a TLS port.
func (c *conn) answerPlainHTTP(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	if p, err := preread.Detect(record.RecordHeader[:]); err != nil || p != preread.HTTP1 {
		return
	}
	c.end = telemetry.ConnBadRequest
	const text = "400 Bad Request: this port requires TLS; use https\n"
	_, _ = c.base.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Connection: close\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text))
}

// linger sends what is held, and discards what the client still sends for a while, so that the
// client can read it: the client may have sent a request after a handshake that it considers
// complete.
func (c *conn) linger() {
	if c.base.CloseWrite() != nil {
		return
	}
	_ = c.base.Drop(linger)
}

// containsAddr reports whether a is in one of the networks. The zone of a link-local address names
// an interface of this host; a network never has one.
func containsAddr(list []netip.Prefix, a netip.Addr) bool {
	a = a.WithZone("")
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
