package resolve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"mpgate/task"
)

const (
	// maxWait bounds the wait for one server.
	maxWait = 5 * time.Second
	// maxMessage is the size of the largest message. There are servers that send more over UDP than
	// was asked for.
	maxMessage = 1 << 16
)

// ask asks the servers in turn until one answers, beginning with the one that answered last. In the
// first round each has a second, so that one that is silent leaves time for the others, then twice
// as long in each further round.
func (r *Resolver) ask(ctx context.Context, name string, t dnsmessage.Type) answer {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return failed(name, "", "invalid name")
	}
	q := dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}
	c := r.system.config()
	servers := c.servers
	if len(r.servers) > 0 {
		servers = r.servers
	}
	first := int(r.good.Load())
	if c.rotate {
		first = int(r.good.Add(1))
	}
	last := failed(name, "", "no server")
	wait := time.Second
	for range c.attempts {
		for i := range servers {
			k := (first + i) % len(servers)
			a, err := askServer(ctx, servers[k], q, min(wait, c.timeout), c.tcp)
			switch {
			case err == nil:
				if !c.rotate && k != int(r.good.Load()) {
					r.good.Store(uint32(k))
				}
				return a
			case ctx.Err() != nil:
				last.err.Err, last.err.IsTimeout, last.err.IsTemporary = "no answer in time", true, true
				return last
			}
			last = failure(name, servers[k], err)
		}
		wait *= 2
	}
	return last
}

func failure(name string, server netip.AddrPort, err error) answer {
	var op *net.OpError
	var call *os.SyscallError
	why := err
	switch { // without the addresses, which the error of the lookup has
	case errors.As(err, &call):
		why = call.Err
	case errors.As(err, &op):
		why = op.Err
	}
	a := failed(name, server.String(), why.Error())
	a.err.IsTemporary = true
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		a.err.Err, a.err.IsTimeout = "no answer in time", true
	}
	return a
}

// errCode is the error of an answer with an RCODE for which another server is asked.
type errCode dnsmessage.RCode

func (e errCode) Error() string {
	switch dnsmessage.RCode(e) {
	case dnsmessage.RCodeServerFailure:
		return "the server failed (SERVFAIL)"
	case dnsmessage.RCodeRefused:
		return "the server refused to answer (REFUSED)"
	case dnsmessage.RCodeFormatError:
		return "the server did not understand (FORMERR)"
	case dnsmessage.RCodeNotImplemented:
		return "the server does not support the question (NOTIMP)"
	}
	return "the server answered with " + dnsmessage.RCode(e).String()
}

// errLame is the error of an answer by a server that neither knows the name nor asks others.
var errLame = errors.New("the server is not responsible for the name")

// askServer asks one server: by UDP, by TCP if the answer is truncated, and without EDNS if the
// server does not understand that.
func askServer(ctx context.Context, server netip.AddrPort, q dnsmessage.Question, wait time.Duration, tcp bool) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	for edns := true; ; {
		p, h, err := exchange(ctx, network, server, q, edns)
		switch {
		case err != nil:
			return answer{}, err
		case h.Truncated && network == "udp":
			network = "tcp"
			continue
		case edns && (h.RCode == dnsmessage.RCodeFormatError || h.RCode == dnsmessage.RCodeNotImplemented):
			edns = false
			continue
		case h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError:
			return answer{}, errCode(h.RCode)
		}
		a, err := parseAnswer(p, q)
		if err == nil && a.err != nil && h.RCode == dnsmessage.RCodeSuccess && !h.Authoritative && !h.RecursionAvailable {
			err = errLame
		}
		return a, err
	}
}

// exchange sends the question over a new socket and returns the answer.
func exchange(ctx context.Context, network string, server netip.AddrPort, q dnsmessage.Question, edns bool) ([]byte, dnsmessage.Header, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, dnsmessage.Header{}, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline() // set by askServer
	_ = c.SetDeadline(deadline)
	defer task.AfterDone(ctx, "lookup: end", func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	id := randomID()
	p, err := query(id, q, edns)
	if err != nil {
		return nil, dnsmessage.Header{}, err
	}
	if network == "tcp" {
		return exchangeTCP(c, p, id, q)
	}
	if _, err := c.Write(p); err != nil {
		return nil, dnsmessage.Header{}, err
	}
	b := make([]byte, maxMessage)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, dnsmessage.Header{}, err
		}
		if h, ok := isAnswer(b[:n], id, q); ok {
			return b[:n], h, nil
		}
	}
}

func exchangeTCP(c net.Conn, p []byte, id uint16, q dnsmessage.Question) ([]byte, dnsmessage.Header, error) {
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)); err != nil {
		return nil, dnsmessage.Header{}, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, dnsmessage.Header{}, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, dnsmessage.Header{}, err
	}
	h, ok := isAnswer(b, id, q)
	if !ok {
		return nil, h, errMalformed
	}
	return b, h, nil
}

func randomID() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}
