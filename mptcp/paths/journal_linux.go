package paths

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// A process that is killed reverts nothing. So the manager records its endpoints and limits in a
// file, the journal, from which the next process recovers them. A change is recorded before it is
// made, since a kill may come in between. The file is written as a whole and renamed. It is not
// synced to the disk: after a crash of the kernel its content is obsolete anyway.
//
//	read ──► of this boot, this namespace, and of no process that still runs? ──► does the kernel have it just so? ──► ours
//
// With Keep the journal stays at the end, as the endpoints do.

const (
	journalVersion = 1
	// maxJournal bounds what is read, bytes.
	maxJournal = 64 << 10
)

// journal is the file. The zero value has none.
type journal struct {
	path       string
	self       journalOwner
	last       []byte // as written; nil: not known
	absent     bool   // there is no file
	foreign    bool   // it belongs to a process that is still running
	handedOver bool   // another process has taken over what was made here
}

// journalOwner identifies the process that wrote a journal, and the namespace that it is about.
type journalOwner struct {
	Version   int    `json:"version"`
	Boot      string `json:"boot"`
	Namespace string `json:"namespace"`
	PID       int    `json:"pid"`
	Started   uint64 `json:"started"` // ticks since the boot
}

// journalFile is the content of the journal.
type journalFile struct {
	journalOwner
	Made Handover `json:"made"`
}

// currentOwner identifies this process, in the network namespace of the calling thread.
func currentOwner() (o journalOwner, err error) {
	o = journalOwner{Version: journalVersion, PID: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return o, err
	}
	o.Boot = strings.TrimSpace(string(boot))
	if o.Namespace, err = namespaceID(); err != nil {
		return o, err
	}
	o.Started, err = startOf(o.PID)
	return o, err
}

// namespaceID names the network namespace of the calling thread: by the kernel's cookie, which is
// never given twice, or before Linux 5.14 by its inode.
func namespaceID() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
		return strconv.FormatUint(cookie, 10), nil
	}
	return os.Readlink("/proc/thread-self/ns/net")
}

// startOf is when a process began, in ticks since the boot (proc_pid_stat(5), field 22).
func startOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may contain any byte.
	_, rest, _ := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(" "))
	fields := bytes.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// read returns what an earlier process has recorded. An error says why the journal is not valid.
func (j *journal) read() (*Handover, error) {
	f, err := os.OpenFile(j.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxJournal {
		return nil, fmt.Errorf("longer than %d bytes", maxJournal)
	}
	var p journalFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("data after its end")
	}
	if err := p.check(&j.self); err != nil {
		return nil, err
	}
	return &p.Made, nil
}

// errRuns: another process wrote the journal and is still running.
var errRuns = errors.New("its process is still running")

func (p *journalFile) check(self *journalOwner) error {
	switch {
	case p.Version != journalVersion:
		return fmt.Errorf("version %d, expected %d", p.Version, journalVersion)
	case p.Boot != self.Boot:
		return errors.New("written before the last boot")
	case p.runs(self):
		return fmt.Errorf("%w (pid %d)", errRuns, p.PID)
	case p.Namespace != self.Namespace:
		return errors.New("written in another network namespace")
	case len(p.Made.Endpoints) > 2*maxEndpoints:
		return fmt.Errorf("%d endpoints, more than the maximum of %d", len(p.Made.Endpoints), maxEndpoints)
	}
	for _, h := range p.Made.Endpoints {
		if e := h.endpoint(); !e.Addr.IsValid() || e.ID == 0 || h.Path == "" {
			return fmt.Errorf("endpoint %+v is incomplete", e)
		}
	}
	return nil
}

// runs reports whether another process than self wrote p and is still running.
func (p *journalFile) runs(self *journalOwner) bool {
	if p.PID == self.PID {
		return false
	}
	at, err := startOf(p.PID)
	return err == nil && at == p.Started
}

// endpoint is the endpoint of the record.
func (h *EndpointRecord) endpoint() mptcp.Endpoint {
	if h.Intended != nil {
		return *h.Intended
	}
	return h.Stored
}

// write replaces the journal; an empty handover removes the file.
func (j *journal) write(e *Handover) error {
	if e.Empty() {
		if j.absent {
			return nil
		}
		err := os.Remove(j.path)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		j.last, j.absent = nil, err == nil
		return err
	}
	text, err := json.Marshal(journalFile{j.self, *e})
	if err != nil || bytes.Equal(text, j.last) {
		return err
	}
	j.last, j.absent = nil, false
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	next := j.path + ".new"
	_ = os.Remove(next) // it may be a pipe or a hard link
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		_ = os.Remove(next)
		return err
	}
	j.last = text
	return nil
}

// openJournal begins to use the journal, and recovers what an earlier process with this state
// directory has recorded.
func (m *Manager) openJournal() {
	j := &m.journal
	if j.path = m.o.Journal; j.path == "" {
		return
	}
	var err error
	if j.self, err = currentOwner(); err != nil {
		j.path = ""
		m.o.Logger.Warn("cannot record MPTCP endpoints: after a kill they count as those of another program", "err", err)
		return
	}
	if !m.o.Recover {
		return
	}
	e, err := j.read()
	switch {
	case errors.Is(err, os.ErrNotExist):
	case errors.Is(err, errRuns):
		j.foreign = true
		m.o.Logger.Warn("the recorded MPTCP endpoints belong to another process: they are not changed, and those of this process are not recorded", "file", j.path, "err", err)
	case err != nil:
		m.o.Logger.Warn("the record of MPTCP endpoints is not used: endpoints of an earlier process count as those of another program", "file", j.path, "err", err)
	default:
		m.recover(e)
	}
}

// recover takes over what is unchanged in the kernel.
func (m *Manager) recover(e *Handover) {
	have, err := m.pm.Endpoints()
	m.noteError("read endpoints", err)
	limits, lerr := m.pm.Limits()
	m.noteError("read limits", lerr)
	if err != nil || lerr != nil {
		return
	}
	var ours, changed, gone []string
	m.lastID = e.LastID
	for _, h := range e.Endpoints {
		k := keyOf(h.endpoint())
		i := slices.IndexFunc(have, func(e mptcp.Endpoint) bool { return keyOf(e) == k })
		switch {
		case i < 0:
			gone = append(gone, k.String())
		case have[i] == h.Stored || h.Intended != nil && have[i] == *h.Intended:
			ours = append(ours, k.String())
			m.owned[k] = ownedEndpoint{requested: h.Requested, stored: have[i], previous: h.Previous, path: h.Path}
		default:
			changed = append(changed, k.String())
		}
	}
	what := "as they were"
	if l := e.Limits; l != nil {
		switch limits {
		case l.Set:
			what = "ours"
			m.limits = ownedLimits{set: true, previous: l.Previous, current: l.Set}
		case l.Previous:
		default:
			what = "changed by another program"
		}
	}
	m.o.Logger.Info("found MPTCP endpoints and limits of an earlier process", "ours_again", ours,
		"changed_since", changed, "gone", gone, "limits", what)
}

// owns returns what would be reverted at the end.
func (m *Manager) owns() *Handover {
	e := &Handover{LastID: m.lastID}
	for k, r := range m.owned {
		if m.contested[k] == "" {
			e.Endpoints = append(e.Endpoints, EndpointRecord{Path: r.path, Requested: r.requested, Stored: r.stored, Previous: r.previous})
		}
	}
	slices.SortFunc(e.Endpoints, func(a, b EndpointRecord) int { return a.Stored.Addr.Compare(b.Stored.Addr) })
	if l := &m.limits; l.set && !l.contested {
		e.Limits = &LimitsRecord{Previous: l.previous, Set: l.current}
	}
	return e
}

// recordOwned writes the current state to the journal.
func (m *Manager) recordOwned() { m.recordHandover(m.owns()) }

// recordIntent records an endpoint that is about to be made or changed.
func (m *Manager) recordIntent(w want, next mptcp.Endpoint, was *mptcp.Endpoint) {
	e := m.owns()
	i := slices.IndexFunc(e.Endpoints, func(h EndpointRecord) bool { return keyOf(h.Stored) == keyOf(next) })
	if i < 0 {
		i = len(e.Endpoints)
		e.Endpoints = append(e.Endpoints, EndpointRecord{Path: w.path, Previous: was})
	}
	e.Endpoints[i].Requested, e.Endpoints[i].Intended = w.Endpoint, &next
	m.recordHandover(e)
}

// recordLimits records limits that are about to be set.
func (m *Manager) recordLimits(was, mine mptcp.Limits) {
	e := m.owns()
	e.Limits = &LimitsRecord{Previous: was, Set: mine}
	m.recordHandover(e)
}

func (m *Manager) recordHandover(e *Handover) {
	if m.journal.path == "" || m.journal.foreign || m.journal.handedOver {
		return
	}
	m.noteError("record endpoints in the state directory", m.journal.write(e))
}
