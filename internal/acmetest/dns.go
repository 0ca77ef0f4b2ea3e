package acmetest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The key that updates are to be signed with, and the zone that they are for.
const (
	TSIGName   = "mpgate-key."
	TSIGSecret = "c2VjcmV0IG9mIHRoZSB0ZXN0IHNlcnZlciBmb3IgVFNJRw=="
	Zone       = "example.test."
)

// DNS is an authoritative server on UDP and TCP that takes updates by
// RFC 2136 with TSIG, and answers every name with 127.0.0.1.
type DNS struct {
	Addr string

	mu      sync.Mutex
	txt     map[string][]string
	updates []string // what was done
	refused int      // updates without a good signature
}

// NewDNS starts one, until the test ends.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	s := &DNS{txt: map[string][]string{}}
	// The same port on both: UDP's choice may be taken on TCP.
	var (
		pc  net.PacketConn
		ln  net.Listener
		err error
	)
	for range 20 {
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = ln.Addr().String()
	secrets := map[string]string{TSIGName: TSIGSecret}
	accept := func(h dns.Header) dns.MsgAcceptAction {
		if op := int(h.Bits>>11) & 0xf; op == dns.OpcodeUpdate {
			return dns.MsgAccept
		}
		return dns.DefaultMsgAcceptFunc(h)
	}
	var tasks sync.WaitGroup
	for _, srv := range []*dns.Server{{PacketConn: pc}, {Listener: ln}} {
		started := make(chan struct{})
		srv.Handler, srv.TsigSecret, srv.MsgAcceptFunc = dns.HandlerFunc(s.serve), secrets, accept
		srv.NotifyStartedFunc = func() { close(started) }
		tasks.Go(func() { srv.ActivateAndServe() })
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	t.Cleanup(func() { pc.Close(); ln.Close() })
	return s
}

func (s *DNS) serve(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	if q.Opcode == dns.OpcodeUpdate {
		if sig := q.IsTsig(); sig == nil || w.TsigStatus() != nil {
			s.refused++
			m.Rcode = dns.RcodeNotAuth
		} else {
			s.update(q, m)
			m.SetTsig(sig.Hdr.Name, sig.Algorithm, 300, time.Now().Unix())
		}
	} else {
		s.answer(q.Question[0], m)
	}
	w.WriteMsg(m)
}

func (s *DNS) update(q, m *dns.Msg) {
	if q.Question[0].Name != Zone {
		m.Rcode = dns.RcodeNotZone
		return
	}
	for _, rr := range q.Ns {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			m.Rcode = dns.RcodeFormatError
			return
		}
		if rr.Header().Class == dns.ClassNONE {
			s.set("cleanup", txt.Hdr.Name, txt.Txt[0])
		} else {
			s.set("present", txt.Hdr.Name, txt.Txt[0])
		}
	}
}

// Set does what an update does: "present" adds a value, "cleanup" removes it.
func (s *DNS) Set(action, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(action, name, value)
}

// Refused is how many updates came without a good signature.
func (s *DNS) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// set adds or removes a value, for s.mu's holder.
func (s *DNS) set(action, name, value string) {
	s.updates = append(s.updates, action+" "+name)
	if action == "present" {
		s.txt[name] = append(s.txt[name], value)
		return
	}
	var keep []string
	for _, v := range s.txt[name] {
		if v != value {
			keep = append(keep, v)
		}
	}
	s.txt[name] = keep
}

func (s *DNS) answer(q dns.Question, m *dns.Msg) {
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 1}
	switch q.Qtype {
	case dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: net.IPv4(127, 0, 0, 1)})
	case dns.TypeTXT:
		for _, v := range s.txt[q.Name] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{v}})
		}
	case dns.TypeSOA:
		if q.Name == Zone {
			m.Answer = append(m.Answer, &dns.SOA{Hdr: hdr, Ns: "ns." + Zone, Mbox: "x." + Zone, Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 1})
		}
	}
}

// Left counts the records that were made and not taken away.
func (s *DNS) Left() (records int, updates []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.txt {
		records += len(v)
	}
	return records, append([]string(nil), s.updates...)
}
