package listener

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// Inherited are the sockets that this process was given, by name. Several may have one name. It may
// be filled from several sources. Unused lists the sockets that no listener takes.
type Inherited struct {
	// OnDrop, if set, is called for a spare socket that is closed because it does not fit the
	// listener of its address.
	OnDrop func(Spare)
	// Held, if set, returns which part of this process uses an address, or one that overlaps, and
	// what to do about it; "" if it is free.
	Held func(address string) (who, remedy string)

	mu      sync.Mutex
	entries []*entry
	spares  []*entry
	note    string // why there may be fewer than expected
}

type entry struct {
	name    string
	file    *os.File
	origin  Origin
	taken   bool
	wanted  bool   // by a listener that could not use it
	info    Spare  // of spares
	dropped string // the address of a spare that was dropped while others were opened
}

// FromSystemd takes the sockets of socket activation (LISTEN_FDS and its kin), those out of the
// store as spares, and removes those variables from the environment, so that no child believes that
// they are its own.
func FromSystemd() (*Inherited, error) {
	fds, pid := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID")
	in := new(Inherited)
	switch n, err := strconv.Atoi(fds); {
	case fds == "":
	case err != nil || n < 0:
		return nil, &Error{What: fmt.Sprintf("LISTEN_FDS is not a number of sockets (got %q)", fds),
			Remedy: "let only systemd set it, or unset it"}
	case pid != strconv.Itoa(os.Getpid()):
		in.note = fmt.Sprintf("LISTEN_FDS=%s is set for process %q, and this one is %d: a wrapper between systemd and mpgate must start it with exec",
			fds, pid, os.Getpid())
	}
	for _, f := range activation.Files(true) {
		if storeName.MatchString(f.Name()) {
			in.AddSpare(f.Name(), f, Store)
		} else {
			in.Add(f.Name(), f, Systemd)
		}
	}
	return in, nil
}

// NewInherited makes a set of files by name, as if systemd had passed them.
func NewInherited(files map[string][]*os.File) *Inherited {
	in := new(Inherited)
	for name, fs := range files {
		for _, f := range fs {
			in.Add(name, f, Systemd)
		}
	}
	return in
}

// Add puts one more socket in; the set owns the file from then on.
func (in *Inherited) Add(name string, f *os.File, origin Origin) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.entries = append(in.entries, &entry{name: name, file: f, origin: origin})
}

// An InheritedFile is one socket taken out of the set; the caller must close it.
type InheritedFile struct {
	*os.File
	Origin Origin
}

// Take takes all sockets of that name.
func (in *Inherited) Take(name string) []InheritedFile {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []InheritedFile
	for _, e := range in.entries {
		if e.name == name && !e.taken {
			e.taken = true
			out = append(out, InheritedFile{e.file, e.origin})
		}
	}
	return out
}

// Len counts all sockets that were given, taken or not.
func (in *Inherited) Len() int {
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.entries)
}

// untake undoes a Take.
func (in *Inherited) untake(files []InheritedFile) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, f := range files {
		for _, e := range in.entries {
			if e.file == f.File {
				e.taken, e.wanted = false, true
			}
		}
	}
}

// Names lists the names that were given, each once, taken or not.
func (in *Inherited) Names() []string {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var names []string
	for _, e := range in.entries {
		if !slices.Contains(names, e.name) {
			names = append(names, e.name)
		}
	}
	slices.Sort(names)
	return names
}

// Unused describes the sockets that no listener took, as `"name" (address, mptcp)`.
func (in *Inherited) Unused() []string {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []string
	for _, e := range in.entries {
		if !e.taken && !e.wanted {
			out = append(out, fmt.Sprintf("%q (%s)", e.name, describe(e.file)))
		}
	}
	slices.Sort(out)
	return out
}

// CheckUnused returns an *Error that names the sockets that no listener took, or nil.
func (in *Inherited) CheckUnused() error {
	unused := in.Unused()
	if len(unused) == 0 {
		return nil
	}
	return &Error{
		What:   "systemd passed sockets that no listener uses: " + strings.Join(unused, ", "),
		Remedy: `add systemd = "NAME" to a listener, or remove the .socket unit (systemctl disable --now)`,
	}
}

// Close closes the sockets that no listener took.
func (in *Inherited) Close() error {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var first error
	for _, e := range slices.Concat(in.entries, in.spares) {
		if !e.taken {
			e.taken = true
			if err := e.file.Close(); first == nil {
				first = err
			}
		}
	}
	return first
}

// missing is the error of a listener whose sockets were not passed.
func (in *Inherited) missing(o *Options) error {
	e := &Error{
		Listener: o.Name,
		What:     fmt.Sprintf("no inherited socket is named %q", o.Systemd),
		Remedy:   fmt.Sprintf("FileDescriptorName=%s in the .socket unit", o.Systemd),
	}
	switch names := in.Names(); {
	case len(names) > 0:
		quoted := make([]string, len(names))
		for i, n := range names {
			quoted[i] = strconv.Quote(n)
		}
		e.What += " (there are " + strings.Join(quoted, ", ") + ")"
	case in != nil && in.note != "":
		e.What += ": " + in.note
		e.Remedy = "start mpgate directly from the unit, or with exec"
	default:
		e.What += "; no socket was inherited"
		e.Remedy += ", and start mpgate by that unit; or give the listener an address too"
	}
	return e
}
