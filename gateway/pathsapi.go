package gateway

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"mpgate/config"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
	"mpgate/proxy/conninfo"
)

// PathsReport is the answer to GET /api/paths, which `mpgate paths` shows. What the kernel does not
// report is absent.
type PathsReport struct {
	Time     time.Time `json:"time"`
	Manage   string    `json:"manage"`   // off, watch or sync
	Failover string    `json:"failover"` // off, link or active
	// Totals says what the sums of Paths count: TotalsSinceStart or TotalsOpen.
	Totals string     `json:"totals"`
	Limits PathLimits `json:"limits"` // in the kernel
	// WantedLimits are those of the configuration; nil: not managed.
	WantedLimits *PathLimits      `json:"wanted_limits,omitempty"`
	Paths        []PathReport     `json:"paths"`
	Endpoints    []PathEndpoint   `json:"endpoints"`
	Connections  []PathConnection `json:"connections"` // those that use MPTCP, maxReported at most
	More         int              `json:"more,omitempty"`
	Notes        []string         `json:"notes,omitempty"`
}

// What the sums of a PathsReport count.
const (
	TotalsSinceStart = "since_start" // all, what has closed included
	TotalsOpen       = "open"        // the connections of the report
)

// PathLimits are those of the kernel's path manager, for each connection.
type PathLimits struct {
	Subflows        int `json:"subflows"`
	AddAddrAccepted int `json:"add_addr_accepted"`
}

// PathReport is one path: declared, watched by the manager, or an undeclared interface that carries
// subflows.
type PathReport struct {
	Name      string       `json:"name"`
	Declared  bool         `json:"declared"`
	Interface string       `json:"interface,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	Role      string       `json:"role,omitempty"`
	Backup    bool         `json:"backup,omitempty"`
	State     string       `json:"state"`
	Why       string       `json:"why,omitempty"` // it is not up

	Subflows           int     `json:"subflows"` // now
	BytesSent          uint64  `json:"bytes_sent"`
	BytesReceived      uint64  `json:"bytes_received"`
	BytesRetransmitted uint64  `json:"bytes_retransmitted"`
	Opened             uint64  `json:"subflows_opened,omitempty"`
	Closed             uint64  `json:"subflows_closed,omitempty"`
	Failed             uint64  `json:"subflows_failed,omitempty"`
	Cuts               uint64  `json:"cuts,omitempty"`
	Returns            uint64  `json:"returns,omitempty"`
	LastStall          float64 `json:"last_stall_ms,omitempty"`
}

// PathEndpoint is an endpoint that is wanted, in the kernel, or both.
type PathEndpoint struct {
	ID         uint8      `json:"id,omitempty"`
	Address    netip.Addr `json:"address"`
	Port       uint16     `json:"port,omitempty"`
	Flags      string     `json:"flags"`
	Interface  string     `json:"interface,omitempty"`
	Path       string     `json:"path,omitempty"`
	Ours       bool       `json:"ours"`
	Wanted     bool       `json:"wanted"`
	Found      bool       `json:"found"`
	Difference string     `json:"difference,omitempty"` // in words
}

// PathConnection is one connection that uses MPTCP.
type PathConnection struct {
	Side     string        `json:"side"`  // listener or backend
	Token    uint32        `json:"token"` // the kernel's name for it, as ss -Mni shows it
	Subflows []PathSubflow `json:"subflows"`
}

// PathSubflow is one subflow.
type PathSubflow struct {
	ID        uint32         `json:"id"`
	Path      string         `json:"path,omitempty"`
	Interface string         `json:"interface,omitempty"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	State     string         `json:"state"`
	Backup    bool           `json:"backup,omitempty"`
	RTT       float64        `json:"rtt_ms"`
	// DeliveryRate in bytes a second, as the kernel last measured it.
	DeliveryRate       uint64 `json:"delivery_rate"`
	BytesSent          uint64 `json:"bytes_sent"`
	BytesReceived      uint64 `json:"bytes_received"`
	BytesRetransmitted uint64 `json:"bytes_retransmitted"`
	Retransmits        uint32 `json:"retransmits"` // segments
}

// maxReported limits the connections of a report: some 12 us and 300 bytes each, more with many
// subflows.
const maxReported = 1000

// PathOptions converts the paths of a configuration. The caller adds source, hooks and logger to
// run a manager.
func PathOptions(c *config.MPTCP) paths.Options {
	o := paths.Options{
		Manage: c.Manage, Adopt: c.Adopt, Keep: c.Keep, Failover: c.Failover, Fullmesh: c.Fullmesh,
	}
	if o.Manage != paths.ManageOff {
		o.Limits = &mptcp.Limits{Subflows: uint32(c.Limits.Subflows), AddrAccepted: uint32(c.Limits.AddAddrAccepted)}
	}
	for _, p := range c.Paths {
		o.Paths = append(o.Paths, paths.Path{
			Name: p.Name, Interface: p.Interface, Address: p.Address, Role: p.Role,
			Backup: p.Backup, Announce: p.Announce, Port: p.Port,
		})
	}
	return o
}

// ReportPaths reads the present paths, endpoints and connections.
func (g *Gateway) ReportPaths() PathsReport {
	s, managed, err := g.pathStatus()
	r := PathsReport{
		Time: time.Now(), Manage: s.Manage.String(), Failover: s.Failover.String(), Totals: TotalsOpen, Limits: limitsOf(s.Limits),
		Paths: []PathReport{}, Endpoints: []PathEndpoint{}, Connections: []PathConnection{}, Notes: s.Notes,
	}
	if managed {
		r.Totals = TotalsSinceStart
	}
	if err != nil {
		r.Notes = append(r.Notes, "cannot read the kernel's endpoints: "+err.Error())
	}
	if s.WantedLimits != nil {
		l := limitsOf(*s.WantedLimits)
		r.WantedLimits = &l
	}
	names := interfaceNames()
	for i := range s.Paths {
		r.Paths = append(r.Paths, pathReport(&s.Paths[i]))
	}
	for _, e := range s.Endpoints {
		r.Endpoints = append(r.Endpoints, PathEndpoint{
			ID: e.ID, Address: e.Addr, Port: e.Port, Flags: e.Flags.String(), Interface: names.byIndex[e.Interface], Path: e.Path,
			Ours: e.Ours, Wanted: e.Wanted, Found: e.Found, Difference: e.Difference,
		})
	}
	g.reportConnections(&r, names, g.boundDevices(&s, names))
	r.sum()
	return r
}

// pathStatus returns the manager's status, or reads it now; managed reports whether a manager keeps
// the totals.
func (g *Gateway) pathStatus() (s paths.Status, managed bool, err error) {
	if m := g.paths.Load(); m != nil {
		s = m.Status()
		managed = s.Manage != paths.ManageOff || s.Failover != paths.FailoverOff || len(s.Paths) > 0
	}
	if s.Manage != paths.ManageOff {
		return s, managed, nil
	}
	// The manager does not read endpoints.
	o := PathOptions(&g.gen.Load().config.MPTCP)
	o.Manage = paths.ManageWatch
	look, err := paths.Look(o)
	s.Limits = look.Limits
	if !managed {
		s.Paths = look.Paths
	}
	for _, e := range look.Endpoints {
		if e.Found { // without management a missing endpoint is not a difference
			e.Difference = ""
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	return s, managed, err
}

func limitsOf(l mptcp.Limits) PathLimits { return PathLimits{int(l.Subflows), int(l.AddrAccepted)} }

func pathReport(p *paths.PathStatus) PathReport {
	r := PathReport{
		Name: p.Name, Declared: p.Declared, Interface: p.Interface, Addresses: p.Addresses, Role: p.Role.String(), Backup: p.Backup,
		State: p.State.String(), Why: p.Why, Subflows: p.Subflows,
		BytesSent: p.BytesSent, BytesReceived: p.BytesReceived, BytesRetransmitted: p.BytesRetrans,
		Opened: p.Opened, Closed: p.Closed, Failed: p.Failed, Cuts: p.Cuts, Returns: p.Returns, LastStall: milliseconds(p.Stalled),
	}
	if r.Addresses == nil {
		r.Addresses = []netip.Addr{}
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// interfaces of the host, as they are now.
type interfaces struct {
	byAddr  map[netip.Addr]string
	byIndex map[int]string
}

func interfaceNames() interfaces {
	n := interfaces{map[netip.Addr]string{}, map[int]string{}}
	all, err := net.Interfaces()
	if err != nil {
		return n // only the names are missing
	}
	for _, i := range all {
		n.byIndex[i.Index] = i.Name
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.byAddr[p.Addr().Unmap()] = i.Name
			}
		}
	}
	return n
}

// liveConn is a connection and its side.
type liveConn struct {
	raw  syscall.RawConn
	side paths.Side
}

// connections returns up to most of those that use MPTCP, of both sides if both have some, and how
// many more there are. They are read after the registries are unlocked, which must not be locked
// for long: reading one that has closed meanwhile fails.
func (g *Gateway) connections(most int) (list []liveConn, more int) {
	front, back := g.front.Len(), g.back.Len()
	ofBack := min(back, max(most/2, most-front))
	take := func(all func(func(*conninfo.Info) bool), side paths.Side, most int) {
		all(func(l *conninfo.Info) bool {
			if most > 0 {
				list = append(list, liveConn{l.Raw(), side})
			}
			most--
			return most > 0
		})
	}
	take(g.front.All, paths.Front, min(front, most-ofBack))
	take(g.back.All, paths.Back, ofBack)
	return list, front + back - len(list)
}

func (g *Gateway) reportConnections(r *PathsReport, names interfaces, devices []int) {
	list, more := g.connections(maxReported)
	r.More = max(0, more)
	diag, err := mptcp.OpenDiag()
	if err == nil {
		defer diag.Close()
	}
	var i mptcp.Info
	for _, c := range list {
		if i.Read(c.raw) != nil {
			continue // closed, or fell back
		}
		if err == nil {
			_ = diag.Fill(&i, devices...) // otherwise the backup flag is missing
		}
		one := PathConnection{Side: c.side.String(), Token: i.Token, Subflows: make([]PathSubflow, 0, len(i.Subflows))}
		for k := range i.Subflows {
			one.Subflows = append(one.Subflows, r.subflow(&i.Subflows[k], names))
		}
		r.Connections = append(r.Connections, one)
	}
}

// boundDevices are the interfaces that subflows may be bound to, as the configuration says or
// because their endpoint has one: the kernel finds those by address and interface only.
func (g *Gateway) boundDevices(s *paths.Status, names interfaces) (list []int) {
	cfg := g.gen.Load().config
	var bound []string
	for _, e := range s.Endpoints {
		bound = append(bound, names.byIndex[e.Interface])
	}
	for i := range cfg.Listeners {
		bound = append(bound, cfg.Listeners[i].Interface)
	}
	for i := range cfg.Backends {
		for _, s := range cfg.Backends[i].Servers {
			bound = append(bound, s.Interface)
		}
	}
	for index, name := range names.byIndex {
		if slices.Contains(bound, name) {
			list = append(list, index)
		}
	}
	return list
}

func (r *PathsReport) subflow(f *mptcp.Subflow, names interfaces) PathSubflow {
	local := f.Local.Addr().Unmap()
	s := PathSubflow{
		ID: f.ID, Interface: names.byAddr[local], Local: netip.AddrPortFrom(local, f.Local.Port()),
		Remote: netip.AddrPortFrom(f.Remote.Addr().Unmap(), f.Remote.Port()), State: f.State.String(), Backup: f.Backup,
		RTT: milliseconds(f.RTT), DeliveryRate: f.DeliveryRate,
		BytesSent: f.BytesSent, BytesReceived: f.BytesReceived, BytesRetransmitted: f.BytesRetrans, Retransmits: f.Retrans,
	}
	s.Path = r.pathOf(local, s.Interface)
	return s
}

// pathOf is the path that has the address. One that belongs to none is listed by its interface, so
// that what it carries is seen.
func (r *PathsReport) pathOf(local netip.Addr, device string) string {
	for i := range r.Paths {
		if slices.Contains(r.Paths[i].Addresses, local) {
			return r.Paths[i].Name
		}
	}
	if device == "" {
		return ""
	}
	for i := range r.Paths {
		if p := &r.Paths[i]; p.Name == device {
			if !p.Declared {
				p.Addresses = append(p.Addresses, local)
			}
			return device
		}
	}
	r.Paths = append(r.Paths, PathReport{Name: device, Interface: device, Addresses: []netip.Addr{local}, State: paths.Up.String()})
	return device
}

// sum adds up by path what the listed subflows carried. The manager's sums know of what has closed,
// and are some seconds old: the larger one is nearer.
func (r *PathsReport) sum() {
	for i := range r.Paths {
		p := &r.Paths[i]
		var sent, received, retrans uint64
		live := 0
		for _, c := range r.Connections {
			for _, s := range c.Subflows {
				if s.Path != p.Name {
					continue
				}
				sent, received, retrans = sent+s.BytesSent, received+s.BytesReceived, retrans+s.BytesRetransmitted
				if inUse(s.State) {
					live++
				}
			}
		}
		p.BytesSent, p.BytesReceived, p.BytesRetransmitted = max(p.BytesSent, sent), max(p.BytesReceived, received), max(p.BytesRetransmitted, retrans)
		if r.More == 0 || live > p.Subflows {
			p.Subflows = live
		}
	}
	slices.SortStableFunc(r.Connections, func(a, b PathConnection) int {
		return cmp.Or(-cmp.Compare(a.Side, b.Side), cmp.Compare(a.Token, b.Token)) // clients first
	})
}

// inUse says whether a subflow in that state is one of those in use.
func inUse(state string) bool {
	switch state {
	case mptcp.StateClosed.String(), mptcp.StateSynSent.String(), mptcp.StateSynReceived.String(), mptcp.StateNewSynReceived.String():
		return false
	}
	return true
}

// servePaths answers with a PathsReport.
func (g *Gateway) servePaths(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(g.ReportPaths())
	if err != nil {
		http.Error(w, "paths: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}
