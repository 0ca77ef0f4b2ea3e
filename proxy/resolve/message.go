package resolve

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxUDP is the size of a response over UDP that is asked for. It passes through all networks
	// without fragments (DNS flag day 2020).
	maxUDP = 1232
	// headerSize is that of the header of a message (RFC 1035 section 4.1.1).
	headerSize = 12
	// maxCNAMEs bounds the chain of names from the question to its records.
	maxCNAMEs = 16
)

// query packs a question. With edns, it announces maxUDP (RFC 6891).
func query(id uint16, q dnsmessage.Question, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := errors.Join(b.StartQuestions(), b.Question(q)); err != nil {
		return nil, err
	}
	if edns {
		var h dnsmessage.ResourceHeader
		if err := errors.Join(h.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false), b.StartAdditionals(), b.OPTResource(h, dnsmessage.OPTResource{})); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// isAnswer reports whether a message answers the question with this id. Messages that do not are
// ignored: they may be forged, or late. An error may come without the question: servers that do not
// understand a message repeat nothing of it but the header.
func isAnswer(p []byte, id uint16, q dnsmessage.Question) (h dnsmessage.Header, ok bool) {
	var m dnsmessage.Parser
	h, err := m.Start(p)
	if err != nil || !h.Response || h.ID != id || h.OpCode != 0 {
		return h, false
	}
	isError := h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError
	got, err := m.Question()
	if isError && (err == dnsmessage.ErrSectionDone || len(p) == headerSize) {
		return h, true
	}
	if err != nil || got.Type != q.Type || got.Class != q.Class || !sameName(got.Name, q.Name) {
		return h, false
	}
	_, err = m.Question()
	return h, err == dnsmessage.ErrSectionDone
}

func sameName(a, b dnsmessage.Name) bool {
	return strings.EqualFold(string(a.Data[:a.Length]), string(b.Data[:b.Length]))
}

// errMalformed means that a message which answers the question cannot be read.
var errMalformed = errors.New("malformed answer")

// parseAnswer returns what a message for which isAnswer is true says about the question.
func parseAnswer(p []byte, q dnsmessage.Question) (answer, error) {
	var m dnsmessage.Message
	if m.Unpack(p) != nil {
		return answer{}, errMalformed
	}
	a := answer{ttl: MaxTTL}
	owner := q.Name
	for range maxCNAMEs {
		next, ttl, ok := cname(m.Answers, owner)
		if !ok {
			break
		}
		owner, a.ttl = next, min(a.ttl, ttl)
	}
	for _, r := range m.Answers {
		if r.Header.Class != q.Class || r.Header.Type != q.Type || !sameName(r.Header.Name, owner) {
			continue
		}
		if a.add(r.Body) {
			a.ttl = min(a.ttl, seconds(r.Header.TTL))
		}
	}
	a.limit()
	if len(a.addrs) == 0 && len(a.services) == 0 {
		a.err = &net.DNSError{Err: "no such host", Name: text(q.Name), IsNotFound: true}
		if m.RCode == dnsmessage.RCodeSuccess {
			a.err.Err = "no record of type " + strings.TrimPrefix(q.Type.String(), "Type")
		}
	}
	a.ttl = limitTTL(a.ttl)
	return a, nil
}

// cname returns the target of a name's CNAME record.
func cname(records []dnsmessage.Resource, owner dnsmessage.Name) (target dnsmessage.Name, ttl time.Duration, ok bool) {
	for _, r := range records {
		if c, is := r.Body.(*dnsmessage.CNAMEResource); is && sameName(r.Header.Name, owner) {
			return c.CNAME, seconds(r.Header.TTL), true
		}
	}
	return dnsmessage.Name{}, 0, false
}

// add adds a record, unless it cannot be the address of a server: to a connect, 0.0.0.0 and :: are
// this host, and lists of blocked names use them.
func (a *answer) add(body dnsmessage.ResourceBody) bool {
	var addr netip.Addr
	switch r := body.(type) {
	case *dnsmessage.AResource:
		addr = netip.AddrFrom4(r.A)
	case *dnsmessage.AAAAResource:
		addr = netip.AddrFrom16(r.AAAA).Unmap()
	case *dnsmessage.SRVResource:
		target := text(r.Target)
		// "." means that there is no such service (RFC 2782).
		if target == "" || r.Port == 0 || !isHostName(target) {
			return false
		}
		s := Service{Target: target, Port: r.Port, Priority: r.Priority, Weight: r.Weight}
		if !slices.ContainsFunc(a.services, func(o Service) bool { return o.Target == s.Target && o.Port == s.Port }) {
			a.services = append(a.services, s)
		}
		return true
	}
	if !usable(addr) {
		return false
	}
	if !slices.Contains(a.addrs, addr) {
		a.addrs = append(a.addrs, addr)
	}
	return true
}

// isHostName reports whether a name consists of letters, digits, hyphens, underscores and dots. A
// label may have any bytes (RFC 2181 section 11), but the targets of SRV records come into fields
// of requests and responses, logs and metrics.
func isHostName(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

func usable(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() }

// limit sorts services, and drops records beyond MaxRecords.
func (a *answer) limit() {
	if len(a.addrs) > MaxRecords {
		slices.SortFunc(a.addrs, netip.Addr.Compare)
		a.addrs = a.addrs[:MaxRecords]
	}
	slices.SortFunc(a.services, func(x, y Service) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.Target, y.Target), cmp.Compare(x.Port, y.Port))
	})
	a.services = a.services[:min(len(a.services), MaxRecords)]
}

// seconds returns a TTL, of which a value with the highest bit set means 0 (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// text returns a name in lower case, without the dot at its end.
func text(n dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(string(n.Data[:n.Length]), "."))
}
