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

// Policies is how a listener terminates TLS, as the data plane needs it: the policies of its names,
// by identity. It is an interface so that who embeds this package need not take along what obtains
// certificates.
type Policies interface {
	// ServerConfig is for tls.Server on every connection.
	ServerConfig() *tls.Config
	// Done is called once after each handshake. It gives the policy that the connection came by;
	// carriesHTTP is false where the handshake failed or was a CA's that proved a name.
	Done(state *tls.ConnectionState, err error) (policy uint64, carriesHTTP bool)
	// PolicyFor is the policy that holds for the host of a request.
	PolicyFor(host []byte) uint64
	// Has says whether a policy still holds for any name.
	Has(policy uint64) bool
	// Single says that one policy holds for every name.
	Single() bool
	// Terms are what the proxy itself does under a policy; nil is nothing.
	Terms(policy uint64) *Terms
}

// Terms are what the proxy does for requests that came under a TLS policy.
type Terms struct {
	HSTS string // the value of Strict-Transport-Security; "" is none
	// Identity gives the header fields that tell a server who the client is, by its certificate;
	// nil is none. Their names belong into ListenerOptions.OwnNames of every listener.
	Identity func(*tls.ConnectionState) []Field
}

// Field is a header field.
type Field struct{ Name, Value string }

// ProxyHeader says whether connections begin with a PROXY header.
type ProxyHeader = preread.ProxyMode

const (
	ProxyOff      = preread.ProxyOff
	ProxyOptional = preread.ProxyOptional
	ProxyRequired = preread.ProxyRequired
)

// session is what is known of a connection that uses TLS.
type session struct {
	state  tls.ConnectionState
	policy uint64
	fields []Field // who the client is
	// As the access log has them.
	version, cipher, group string
}

// setup handles what comes before HTTP, or before the bytes of a TCP listener: a PROXY header, a
// connection that is passed through, the TLS handshake. It gives what these are spoken on, nil where
// the connection is over.
func (c *conn) setup(v *view) netio.Stream {
	c.base.ReadBy(c.firstDeadline())
	var ahead netio.Buffer
	defer ahead.Release()
	if v.ProxyHeader != ProxyOff && !c.proxyHeader(v, &ahead) {
		return nil
	}
	if c.limits.perClient > 0 && c.peer.IsValid() {
		if !c.proxy.clients.enter(c.peer.Addr(), c.limits.perClient) {
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

// proxyHeader takes a PROXY header off, from peers that may send one; what it says replaces the
// peer's address.
func (c *conn) proxyHeader(v *view, ahead *netio.Buffer) bool {
	if c.socket.IsValid() && !contains(v.ProxyHeaderFrom, c.socket.Addr()) { // a unix socket's peers are those whom its mode lets in
		if v.ProxyHeader == ProxyOptional {
			return true
		}
		c.end = telemetry.ConnProxyHeader
		return false
	}
	for {
		if err := c.base.Fill(ahead); err != nil {
			c.end = c.silence(err)
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

// handshake terminates TLS. Its time is bounded by the first deadline: for reads the setup has
// set it.
func (c *conn) handshake(policies Policies) netio.Stream {
	_ = c.base.SetWriteDeadline(c.firstDeadline())
	defer func() { _ = c.base.SetWriteDeadline(time.Time{}) }()
	h := &handshaking{Conn: c.base, turns: c.proxy.handshakes}
	t := tls.Server(h, policies.ServerConfig())
	err := func() error {
		defer h.over() // also where it panics
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
		c.answerPlain(err)
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

// answerPlain tells a client that uses HTTP to a TLS port so, in a way that it understands.
func (c *conn) answerPlain(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	if p, err := preread.Detect(record.RecordHeader[:]); err != nil || p != preread.HTTP1 {
		return
	}
	c.end = telemetry.ConnBadRequest
	const text = "400 Bad Request: this port requires TLS; use https\n"
	_, _ = c.base.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: " +
		strconv.Itoa(len(text)) + "\r\n\r\n" + text))
}

// linger sends what is held and takes what the client still sends for a moment, so that it gets to
// see that: it may have sent its first request behind a handshake that it believes to be complete.
func (c *conn) linger() {
	if c.base.CloseWrite() != nil {
		return
	}
	_ = c.base.SetReadDeadline(time.Now().Add(lingerTime))
	_ = c.base.Drop(lingerBytes)
}

// contains reports whether a is in one of the networks. The zone of a link-local address names one
// of our own interfaces; a network never has one.
func contains(list []netip.Prefix, a netip.Addr) bool {
	a = a.WithZone("")
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
