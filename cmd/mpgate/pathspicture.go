package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mpgate/gateway"
)

// rates are bytes a second.
type rates struct{ sent, received float64 }

func (r rates) sum() float64 { return r.sent + r.received }

// subflowKey identifies a subflow uniquely.
type subflowKey struct {
	token, id uint32
}

// traffic is what was carried between two reports.
type traffic struct {
	paths    map[string]rates
	subflows map[subflowKey]rates
	most     float64 // of any path since the watch began
}

// history has the last reports of a watch.
type history struct {
	reports []*gateway.PathsReport
	most    float64
}

// historyLength is the number of seconds kept: the gateway updates the totals of all connections
// every five.
const historyLength = 7

// add returns the traffic between the previous report and this one; nil for the first.
func (h *history) add(r *gateway.PathsReport) *traffic {
	h.reports = append(h.reports, r)
	if len(h.reports) > historyLength {
		h.reports = slices.Delete(h.reports, 0, 1)
	}
	if len(h.reports) < 2 {
		return nil
	}
	before := h.reports[len(h.reports)-2]
	t := &traffic{paths: map[string]rates{}, subflows: subflowRates(before, r)}
	for _, c := range r.Connections {
		for _, s := range c.Subflows {
			one, all := t.subflows[subflowKey{c.Token, s.ID}], t.paths[s.Path]
			t.paths[s.Path] = rates{all.sent + one.sent, all.received + one.received}
		}
	}
	if before.More > 0 || r.More > 0 {
		// The set of listed connections changes.
		t.paths = pathRates(h.reports[0], r)
	}
	for _, p := range t.paths {
		h.most = max(h.most, p.sum())
	}
	t.most = h.most
	return t
}

func subflowRates(before, now *gateway.PathsReport) map[subflowKey]rates {
	seconds := now.Time.Sub(before.Time).Seconds()
	known, old := map[uint32]bool{}, map[subflowKey]gateway.PathSubflow{}
	for _, c := range before.Connections {
		known[c.Token] = true
		for _, s := range c.Subflows {
			old[subflowKey{c.Token, s.ID}] = s
		}
	}
	out := map[subflowKey]rates{}
	for _, c := range now.Connections {
		if !known[c.Token] && before.More > 0 {
			continue // it may be older and was not listed before
		}
		for _, s := range c.Subflows {
			was := old[subflowKey{c.Token, s.ID}]
			out[subflowKey{c.Token, s.ID}] = rates{
				perSecond(was.BytesSent, s.BytesSent, seconds), perSecond(was.BytesReceived, s.BytesReceived, seconds),
			}
		}
	}
	return out
}

// pathRates uses the totals of paths if the gateway keeps them; only those include all connections.
func pathRates(before, now *gateway.PathsReport) map[string]rates {
	out := map[string]rates{}
	if now.Totals != gateway.TotalsSinceStart || before.Totals != now.Totals {
		return out
	}
	seconds := now.Time.Sub(before.Time).Seconds()
	for _, p := range now.Paths {
		for _, q := range before.Paths {
			if p.Name == q.Name {
				out[p.Name] = rates{perSecond(q.BytesSent, p.BytesSent, seconds), perSecond(q.BytesReceived, p.BytesReceived, seconds)}
			}
		}
	}
	return out
}

func perSecond(before, now uint64, seconds float64) float64 {
	if now < before || seconds <= 0 {
		return 0
	}
	return float64(now-before) / seconds
}

// picture is a report as text.
type picture struct {
	*gateway.PathsReport
	traffic *traffic // nil: not known
	b       strings.Builder
}

func newPicture(r *gateway.PathsReport, t *traffic) *picture {
	return &picture{PathsReport: r, traffic: t}
}

func (p *picture) text() string {
	fmt.Fprintf(&p.b, "%s  manage %s, failover %s; limits: subflows %d, add_addr_accepted %d",
		p.Time.Local().Format(time.TimeOnly), p.Manage, p.Failover, p.Limits.Subflows, p.Limits.AddAddrAccepted)
	if w := p.WantedLimits; w != nil && *w != p.Limits {
		fmt.Fprintf(&p.b, " (configured: %d and %d)", w.Subflows, w.AddAddrAccepted)
	}
	p.b.WriteByte('\n')
	for _, n := range p.Notes {
		fmt.Fprintln(&p.b, "note:", n)
	}
	if p.traffic != nil {
		p.bars()
	}
	p.paths()
	p.endpoints()
	p.connections()
	return p.b.String()
}

// table draws rows of cells below a headline.
func (p *picture) table(head string, rows [][]string) {
	p.b.WriteByte('\n')
	t := tabwriter.NewWriter(&p.b, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush() // into memory
}

// barWidth is that of the busiest path since the watch began.
const barWidth = 30

func (p *picture) bars() {
	p.b.WriteByte('\n')
	t := tabwriter.NewWriter(&p.b, 2, 8, 2, ' ', 0)
	for _, path := range p.Paths {
		r, known := p.traffic.paths[path.Name]
		if !known && p.More > 0 {
			fmt.Fprintf(t, "%s\t%s\tunknown: more connections than are listed, and mptcp.manage and mptcp.failover are off\n", path.Name, strings.Repeat("·", barWidth))
			continue
		}
		full := 0
		if p.traffic.most > 0 {
			full = min(barWidth, int(r.sum()/p.traffic.most*barWidth+0.5))
		}
		fmt.Fprintf(t, "%s\t%s%s\tout %s/s\tin %s/s\n", path.Name, strings.Repeat("█", full), strings.Repeat("·", barWidth-full), size(r.sent), size(r.received))
	}
	_ = t.Flush()
}

func (p *picture) paths() {
	var rows [][]string
	for _, path := range p.Paths {
		var addresses, notes []string
		for _, a := range path.Addresses {
			addresses = append(addresses, a.String())
		}
		if !path.Declared {
			notes = append(notes, "not declared")
		}
		if path.Backup {
			notes = append(notes, "backup")
		}
		if path.Why != "" {
			notes = append(notes, path.Why)
		}
		if path.Cuts > 0 {
			notes = append(notes, fmt.Sprintf("%s, %s", plural(int(path.Cuts), "fail-over"), plural(int(path.Returns), "return")))
		}
		rows = append(rows, []string{
			path.Name, cmp.Or(path.Interface, "-"), cmp.Or(strings.Join(addresses, ","), "-"), cmp.Or(path.Role, "-"), path.State, fmt.Sprint(path.Subflows),
			bytesText(path.BytesSent), bytesText(path.BytesReceived), bytesText(path.BytesRetransmitted), strings.Join(notes, ", "),
		})
	}
	p.table("PATH INTERFACE ADDRESSES ROLE STATE SUBFLOWS SENT RECEIVED RETRANSMITTED NOTE", rows)
}

func (p *picture) endpoints() {
	if len(p.Endpoints) == 0 {
		p.b.WriteString("\nno endpoints: the kernel creates no additional subflows and announces no addresses\n")
		return
	}
	var rows [][]string
	for _, e := range p.Endpoints {
		address := e.Address.String()
		if e.Port != 0 {
			address += fmt.Sprintf(" port %d", e.Port)
		}
		note := e.Difference
		if note == "" && e.Found && !e.Wanted && e.Path == "" {
			note = "belongs to no declared path"
		}
		id := "-"
		if e.ID != 0 {
			id = fmt.Sprint(e.ID)
		}
		rows = append(rows, []string{address, id, cmp.Or(e.Flags, "-"), cmp.Or(e.Interface, "-"), cmp.Or(e.Path, "-"), yesNo(e.Ours), note})
	}
	p.table("ENDPOINT ID FLAGS INTERFACE PATH OURS NOTE", rows)
}

func (p *picture) connections() {
	if len(p.Connections) == 0 {
		p.b.WriteString("\nno MPTCP connections\n")
		return
	}
	var rows [][]string
	for _, c := range p.busiest() {
		side, token := c.Side, fmt.Sprintf("%08x", c.Token)
		for _, s := range c.Subflows {
			rate := s.DeliveryRate
			if p.traffic != nil {
				rate = uint64(p.traffic.subflows[subflowKey{c.Token, s.ID}].sum())
			}
			state := s.State
			if s.Backup {
				state += ", backup"
			}
			rows = append(rows, []string{
				side, token, cmp.Or(s.Path, "-"), cmp.Or(s.Interface, "-"), s.Local.String(), s.Remote.String(), fmt.Sprintf("%.1f ms", s.RTT), bytesText(rate) + "/s",
				bytesText(s.BytesSent), bytesText(s.BytesReceived), bytesText(s.BytesRetransmitted), state,
			})
			side, token = "", "" // only on the first line
		}
	}
	p.table("SIDE TOKEN PATH INTERFACE LOCAL REMOTE RTT RATE SENT RECEIVED RETRANSMITTED STATE", rows)
	if p.More > 0 {
		fmt.Fprintf(&p.b, "and %s\n", plural(p.More, "more connection"))
	}
}

// busiest sorts connections by traffic, most first: the current rate if known, otherwise the total.
func (p *picture) busiest() []gateway.PathConnection {
	weight := map[uint32]float64{}
	for _, c := range p.Connections {
		for _, s := range c.Subflows {
			if p.traffic != nil {
				weight[c.Token] += p.traffic.subflows[subflowKey{c.Token, s.ID}].sum()
			} else {
				weight[c.Token] += float64(s.BytesSent + s.BytesReceived)
			}
		}
	}
	list := slices.Clone(p.Connections)
	slices.SortStableFunc(list, func(a, b gateway.PathConnection) int { return cmp.Compare(weight[b.Token], weight[a.Token]) })
	return list
}

func bytesText(n uint64) string { return size(float64(n)) }

// size is a number of bytes with three digits.
func size(n float64) string {
	for _, unit := range []string{"B", "KB", "MB", "GB", "TB"} {
		if n < 999.5 || unit == "TB" {
			switch {
			case unit == "B", n >= 99.95:
				return fmt.Sprintf("%.0f %s", n, unit)
			case n >= 9.995:
				return fmt.Sprintf("%.1f %s", n, unit)
			}
			return fmt.Sprintf("%.2f %s", n, unit)
		}
		n /= 1000
	}
	return ""
}
