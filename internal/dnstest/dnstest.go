// Package dnstest is a DNS server for tests, on UDP and TCP, which can also misbehave.
package dnstest

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Mode is how a server answers.
type Mode int

const (
	Normal    Mode = iota
	Silent         // not at all
	ServFail       // with SERVFAIL
	Refused        // with REFUSED
	NXDomain       // that no name exists
	Empty          // that names exist, without records
	Garbage        // with random bytes after the id
	Malformed      // with the right question, and an answer that ends too early
	WrongID        // with another id, and an address that must not be used
	WrongName      // with another question, and an address that must not be used
	NoEDNS         // with FORMERR, if the question has EDNS
	BareEDNS       // so, too, but without the question
	CutEDNS        // so, too, but with the header alone, which promises a question
	BareFail       // with SERVFAIL, without the question
	OnlyTCP        // over UDP truncated
	TooLarge       // over UDP with everything, whatever size was asked for; not at all over TCP
	OnlyA          // not at all to questions for AAAA
)

// Forged is the address in answers of WrongID and WrongName.
const Forged = "127.6.6.6"

// Server is a DNS server. It has no records at first.
type Server struct {
	Addr netip.AddrPort

	mu      sync.Mutex // guards what follows
	mode    Mode
	records []dns.RR
	asked   map[dns.Question]int
	overTCP int
	changed chan struct{} // closed at each question
}

// New starts a server on 127.0.0.1, until the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{asked: map[dns.Question]int{}, changed: make(chan struct{})}
	pc, ln := sockets(t)
	s.Addr = netip.MustParseAddrPort(ln.Addr().String())
	var group sync.WaitGroup
	servers := []*dns.Server{{PacketConn: pc, UDPSize: 4096}, {Listener: ln}}
	for _, one := range servers {
		started := make(chan struct{})
		one.Handler, one.NotifyStartedFunc = dns.HandlerFunc(s.serve), func() { close(started) }
		group.Go(func() { _ = one.ActivateAndServe() })
		<-started
	}
	t.Cleanup(func() {
		for _, one := range servers {
			_ = one.Shutdown()
		}
		group.Wait()
	})
	return s
}

// sockets opens the same port for both protocols.
func sockets(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// Set replaces the records, each a line of a zone file: "api.example. 1 IN A 192.0.2.1".
func (s *Server) Set(lines ...string) {
	var records []dns.RR
	for _, l := range lines {
		r, err := dns.NewRR(l)
		if err != nil || r == nil {
			panic("dnstest: not a record: " + l)
		}
		records = append(records, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
}

// Behave changes how the server answers.
func (s *Server) Behave(m Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode = m
}

// Asked returns how often a question has arrived. The type is "A", "AAAA" or "SRV".
func (s *Server) Asked(name, kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question(name, kind)]
}

// OverTCP returns how many questions have arrived over TCP.
func (s *Server) OverTCP() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overTCP
}

// WaitAsked waits until a question has arrived more than n times, or done is closed.
func (s *Server) WaitAsked(done <-chan struct{}, name, kind string, n int) bool {
	for {
		s.mu.Lock()
		asked, changed := s.asked[question(name, kind)], s.changed
		s.mu.Unlock()
		if asked > n {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

func question(name, kind string) dns.Question {
	return dns.Question{Name: dns.CanonicalName(name), Qtype: dns.StringToType[kind], Qclass: dns.ClassINET}
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	tcp := w.RemoteAddr().Network() == "tcp"
	s.mu.Lock()
	for _, one := range q.Question {
		one.Name = dns.CanonicalName(one.Name)
		s.asked[one]++
	}
	if tcp {
		s.overTCP++
	}
	close(s.changed)
	s.changed = make(chan struct{})
	mode, records := s.mode, s.records
	s.mu.Unlock()
	if len(q.Question) == 1 {
		answer(w, q, mode, records, tcp)
	}
}

func answer(w dns.ResponseWriter, q *dns.Msg, mode Mode, records []dns.RR, tcp bool) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	forge := func() {
		a, _ := dns.NewRR(q.Question[0].Name + " 1 IN A " + Forged)
		m.Answer = append(m.Answer, a)
	}
	switch mode {
	case Silent:
		return
	case OnlyA:
		if q.Question[0].Qtype == dns.TypeAAAA {
			return
		}
	case ServFail:
		m.Rcode = dns.RcodeServerFailure
	case Refused:
		m.Rcode = dns.RcodeRefused
	case NXDomain:
		m.Rcode = dns.RcodeNameError
	case Garbage:
		p, _ := q.Pack()
		_, _ = w.Write(append(p[:2:2], strings.Repeat("\xa5\x80\xff", 40)...))
		return
	case WrongID:
		m.Id++
		forge()
	case WrongName:
		m.Question[0].Name = "other.invalid."
		m.Answer = nil
		forge()
	case BareFail:
		m.Rcode, m.Question = dns.RcodeServerFailure, nil
	case NoEDNS, BareEDNS, CutEDNS:
		if q.IsEdns0() == nil {
			break
		}
		m.Rcode = dns.RcodeFormatError
		if mode == BareEDNS {
			m.Question = nil
		}
		if mode == CutEDNS {
			p, _ := m.Pack()
			_, _ = w.Write(p[:12])
			return
		}
	case TooLarge:
		if tcp {
			return
		}
	case OnlyTCP:
		if !tcp {
			m.Truncated = true
			_ = w.WriteMsg(m)
			return
		}
	}
	if m.Rcode == dns.RcodeSuccess && mode != Empty && len(m.Answer) == 0 {
		find(m, records)
	}
	if mode == Malformed {
		p, _ := m.Pack()
		p[7] = 9 // records that are not there
		_, _ = w.Write(p)
		return
	}
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = int(o.UDPSize())
	}
	if !tcp && mode != TooLarge {
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// find adds the records that answer the question.
func find(m *dns.Msg, records []dns.RR) {
	q := m.Question[0]
	name := dns.CanonicalName(q.Name)
	exists := false
	for range 8 {
		next := ""
		for _, r := range records {
			h := r.Header()
			if dns.CanonicalName(h.Name) != name {
				continue
			}
			exists = true
			if c, ok := r.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
				next = dns.CanonicalName(c.Target)
				m.Answer = append(m.Answer, r)
			} else if h.Rrtype == q.Qtype {
				m.Answer = append(m.Answer, r)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
}
