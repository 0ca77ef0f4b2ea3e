package paths

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// leaveBehind has a manager leave two endpoints and limits, with a journal of them.
func (r *rig) leaveBehind() (o Options) {
	r.t.Helper()
	r.pm(func(pm *mptcp.PathManager) error {
		if _, err := pm.SetLimits(mptcp.Limits{Subflows: 2}); err != nil {
			return err
		}
		return pm.FlushEndpoints()
	})
	o = Options{
		Manage: ManageSync, Keep: true, Limits: &mptcp.Limits{Subflows: 5, AddrAccepted: 4}, Paths: slices.Clone(twoPaths),
		Journal: filepath.Join(r.t.TempDir(), "state", "endpoints.json"), Recover: true,
	}
	r.open(o)
	r.inSync(2)
	r.stop()
	if got := r.flags(); got != bothFlags {
		r.t.Fatalf("endpoints %s", got)
	}
	r.log.Reset()
	o.Keep = false
	return o
}

const bothFlags = "10.77.1.1 signal,subflow; 10.77.2.1 signal,subflow"

func (r *rig) ours() (n int) {
	for _, s := range r.m.Status().Endpoints {
		if s.Ours {
			n++
		}
	}
	return n
}

// readPage reads a journal.
func readPage(t *testing.T, file string) (p journalFile) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func writePage(t *testing.T, file string, p journalFile) {
	t.Helper()
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What an earlier process has made is ours again as far as it is as it was, and taken back at the
// end with the limits.
func TestRecover(t *testing.T) {
	set := func(e mptcp.Endpoint) func(*rig, string) {
		return func(r *rig, _ string) {
			r.pm(func(pm *mptcp.PathManager) error {
				for _, have := range r.endpoints() {
					if have.Addr == e.Addr {
						if err := pm.DelEndpoint(have.ID, have.Addr); err != nil {
							return err
						}
					}
				}
				if e.Flags == 0 {
					return nil
				}
				_, err := pm.AddEndpoint(e)
				return err
			})
		}
	}
	edit := func(f func(*journalFile)) func(*rig, string) {
		return func(r *rig, file string) { p := readPage(r.t, file); f(&p); writePage(r.t, file, p) }
	}
	text := func(s string) func(*rig, string) {
		return func(r *rig, file string) {
			if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	two := ip("10.77.2.1")
	was, none := mptcp.Limits{Subflows: 2}, mptcp.Limits{Subflows: 5, AddrAccepted: 4}
	others := mptcp.Limits{Subflows: 7}
	r := start(t, "client", lab.Path{}, Options{})
	r.stop()
	for _, c := range []struct {
		name      string
		meanwhile func(r *rig, file string)
		ours      int
		log       string // of the start
		left      string // after the end
		limits    mptcp.Limits
	}{
		{"nothing", func(*rig, string) {}, 2, "ours_again=\"[10.77.1.1 10.77.2.1]\"", "", was},
		{"other flags", set(mptcp.Endpoint{Addr: two, ID: 2, Flags: mptcp.FlagSubflow}), 1, "changed_since=[10.77.2.1]", "10.77.2.1 subflow", was},
		{"another ID", set(mptcp.Endpoint{Addr: two, ID: 77, Flags: mptcp.FlagSignal | mptcp.FlagSubflow}), 1, "changed_since=[10.77.2.1]", "10.77.2.1 signal,subflow", was},
		{"a port", set(mptcp.Endpoint{Addr: two, ID: 2, Port: 4000, Flags: mptcp.FlagSignal}), 2, "gone=[10.77.2.1]", "10.77.2.1:4000 signal", was},
		{"it is gone", set(mptcp.Endpoint{Addr: two}), 2, "gone=[10.77.2.1]", "", was},
		{"other limits", func(r *rig, _ string) {
			r.pm(func(pm *mptcp.PathManager) error { _, err := pm.SetLimits(others); return err })
		}, 2, "limits=\"changed by another program\"", "", others},
		{"killed before the last was made", edit(func(p *journalFile) {
			h := &p.Made.Endpoints[1]
			next := h.Stored
			h.Intended, h.Stored = &next, mptcp.Endpoint{}
		}), 2, "ours_again=\"[10.77.1.1 10.77.2.1]\"", "", was},
		{"another boot", edit(func(p *journalFile) { p.Boot = "x" }), 0, "before the last boot", bothFlags, none},
		{"another namespace", edit(func(p *journalFile) { p.Namespace = "7" }), 0, "another network namespace", bothFlags, none},
		{"another version", edit(func(p *journalFile) { p.Version++ }), 0, "version 2", bothFlags, none},
		{"a process that runs", edit(func(p *journalFile) { p.PID = 1; p.Started, _ = startOf(1) }), 0, "still running (pid 1)", bothFlags, none},
		{"a process of that number", edit(func(p *journalFile) { p.PID = 1; p.Started = 1 << 40 }), 2, "ours_again", "", was},
		{"no address", edit(func(p *journalFile) { p.Made.Endpoints[0].Stored = mptcp.Endpoint{} }), 0, "incomplete", bothFlags, none},
		{"cut short", text(`{"version":1,"boot":`), 0, "unexpected EOF", bothFlags, none},
		{"empty", text(""), 0, "EOF", bothFlags, none},
		{"too long", text(strings.Repeat(" ", maxJournal+1)), 0, "longer than", bothFlags, none},
		{"an unknown field", text(`{"colour":1}`), 0, "unknown field", bothFlags, none},
		{"removed", func(r *rig, file string) { _ = os.Remove(file) }, 0, "", bothFlags, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			o := r.leaveBehind()
			c.meanwhile(r, o.Journal)
			if c.limits == others {
				o.Limits = nil
			}
			r.open(o)
			until(t, "it has looked", func() bool { return len(r.m.Status().Endpoints) >= 2 })
			if r.ours() != c.ours {
				t.Errorf("%d are ours, want %d; log:\n%s", r.ours(), c.ours, r.logged())
			}
			if !strings.Contains(r.logged(), c.log) || c.log == "" && strings.Contains(r.logged(), "journal") {
				t.Errorf("logged %s, want %q", r.logged(), c.log)
			}
			r.stop()
			if got := r.flags(); got != c.left || r.limits() != c.limits {
				t.Errorf("left behind: %s, limits %+v; want %s, %+v", got, r.limits(), c.left, c.limits)
			}
			_, err := os.Stat(o.Journal)
			if there := err == nil; there != (c.name == "a process that runs") {
				t.Errorf("after the end there is a journal: %v", there)
			}
		})
	}
}

// Where the journal cannot be written that is said, and all else continues.
func TestJournalNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "client", lab.Path{}, Options{Manage: ManageSync, Paths: twoPaths, Journal: filepath.Join(file, "endpoints.json"), Recover: true})
	r.inSync(2)
	if log := r.logged(); !strings.Contains(log, "not a directory") {
		t.Errorf("logged %s", log)
	}
	r.stop()
	r.wantFlags("")
}

// An endpoint that was adopted is given back by the process after a kill, too.
func TestRecoverAdopted(t *testing.T) {
	o := Options{
		Manage: ManageSync, Keep: true, Adopt: true, Paths: slices.Clone(twoPaths[:1]),
		Journal: filepath.Join(t.TempDir(), "endpoints.json"), Recover: true,
	}
	r := start(t, "client", lab.Path{}, Options{})
	r.stop()
	r.pm(func(pm *mptcp.PathManager) error {
		_, err := pm.AddEndpoint(mptcp.Endpoint{Addr: ip("10.77.1.1"), Flags: mptcp.FlagSubflow | mptcp.FlagBackup})
		return err
	})
	r.open(o)
	r.wantFlags("10.77.1.1 signal,subflow")
	r.inSync(1)
	r.stop()
	o.Keep = false
	r.open(o)
	until(t, "ours again", func() bool { return r.ours() == 1 })
	r.stop()
	r.wantFlags("10.77.1.1 subflow,backup")
}

// The journal goes over with what it tells of: the process that has handed over does not touch it.
func TestJournalHandedOver(t *testing.T) {
	o := Options{Manage: ManageSync, Paths: slices.Clone(twoPaths), Journal: filepath.Join(t.TempDir(), "endpoints.json"), Recover: true}
	r := start(t, "client", lab.Path{}, o)
	r.inSync(2)
	e, stopFirst := r.handOver(), r.stop
	next := o
	next.Recover, next.Handover = false, e
	r.open(next)
	r.inSync(2)
	stopFirst()
	if p := readPage(t, o.Journal); len(p.Made.Endpoints) != 2 {
		t.Errorf("after the end of the first the journal has %+v", p)
	}
	r.stop()
	if _, err := os.Stat(o.Journal); err == nil {
		t.Error("there is a journal after the end")
	}
	r.wantFlags("")
}

// What lies where the next journal is to be written is put aside, whatever it is: it is neither
// waited for nor written to.
func TestJournalBesideOtherFiles(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, lay := range map[string]func(string) error{
		"pipe":          func(to string) error { return unix.Mkfifo(to, 0o600) },
		"symbolic link": func(to string) error { return os.Symlink(other, to) },
		"link":          func(to string) error { return os.Link(other, to) },
		"rest":          func(to string) error { return os.WriteFile(to, []byte("{"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			j := journal{path: filepath.Join(dir, name)}
			if err := lay(j.path + ".new"); err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			go func() { wrote <- j.write(&Handover{LastID: 1, Limits: &LimitsRecord{}}) }()
			select {
			case err := <-wrote:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it waits")
			}
			readPage(t, j.path)
			if text, err := os.ReadFile(other); err != nil || string(text) != "other" {
				t.Errorf("the other file holds %q, %v", text, err)
			}
		})
	}
}
