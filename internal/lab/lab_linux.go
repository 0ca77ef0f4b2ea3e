package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Lab is a network that is up.
type Lab struct {
	spec       Spec
	places     map[string]*Place
	order      []*Place
	links      map[string]*Link
	congestion Congestion
	middle     *middle // of links run by the kernel; nil without any
	cmd        *exec.Cmd
	realtime   bool

	mu      sync.Mutex
	control int // socket to the child, -1 once closed
	end     error
}

// New builds the network that spec describes. ctx bounds the building only:
// the lab stays until Close, or until this process ends in whatever way.
func New(ctx context.Context, spec Spec) (*Lab, error) {
	spec, err := spec.complete()
	if err != nil {
		return nil, err
	}
	l := &Lab{spec: spec, places: map[string]*Place{}, links: map[string]*Link{}, control: -1}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	if err := capable(); err != nil {
		return err
	}
	var err error
	if l.congestion, err = congestion(l.spec.Congestion); err != nil {
		return err
	}
	settings := map[string]PlaceSpec{}
	for _, p := range l.spec.Places {
		settings[p.Name] = p
	}
	for i := range l.spec.Links {
		s := &l.spec.Links[i]
		for _, name := range []string{s.A, s.B} {
			if l.places[name] != nil {
				continue
			}
			p, err := newPlace(l, name, settings[name])
			if err != nil {
				return err
			}
			l.places[name] = p
			l.order = append(l.order, p)
		}
		link := &Link{lab: l, LinkSpec: s, number: i + 1, emulated: -1}
		link.ends = [2]end{
			{link, l.places[s.A], s.DevA, []netip.Prefix{s.AddrA, s.Addr6A}, 0},
			{link, l.places[s.B], s.DevB, []netip.Prefix{s.AddrB, s.Addr6B}, 1},
		}
		l.links[s.Name] = link
	}
	files, err := l.makeLinks(ctx)
	defer closeAll(files)
	if err == nil {
		err = l.startChild(files)
	}
	if err == nil && l.middle != nil {
		err = l.middle.start(ctx)
	}
	if err != nil {
		return err
	}
	for _, s := range l.spec.Links {
		if err := l.links[s.Name].configure(); err != nil {
			return err
		}
	}
	for _, p := range l.order {
		if err := p.configure(settings[p.name]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// makeLinks makes the interfaces, and returns the TUN devices for the child.
func (l *Lab) makeLinks(ctx context.Context) (tuns []*os.File, err error) {
	emulated := 0
	for i := range l.spec.Links {
		if err := ctx.Err(); err != nil {
			return tuns, err
		}
		link := l.links[l.spec.Links[i].Name]
		if link.Engine, err = choose(link.LinkSpec); err != nil {
			return tuns, fmt.Errorf("lab: link %q: %w", link.Name, err)
		}
		if link.Engine == Kernel {
			if l.middle == nil {
				if l.middle, err = newMiddle(); err != nil {
					return tuns, err
				}
			}
			if err := l.middle.connect(link); err != nil {
				return tuns, fmt.Errorf("lab: link %q: %w", link.Name, err)
			}
			continue
		}
		link.emulated = emulated
		emulated++
		for i := range link.ends {
			f, err := link.ends[i].place.space.tun(link.ends[i].dev)
			if err != nil {
				return tuns, err
			}
			tuns = append(tuns, f)
		}
	}
	return tuns, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// startChild starts the child process and hands it the lab.
func (l *Lab) startChild(tuns []*os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lab: control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "lab control")
	defer theirs.Close()
	s := setup{Seed: l.spec.Seed}
	files := []*os.File{theirs}
	for _, sp := range l.spaces() {
		files = append(files, sp.file)
		s.Spaces++
	}
	files = append(files, tuns...)
	for _, spec := range l.spec.Links {
		if link := l.links[spec.Name]; link.emulated >= 0 {
			s.Links = append(s.Links, childLink{link.there(), link.back(), link.MTU, link.Box})
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control = pair[0]
	l.cmd = exec.Command("/proc/self/exe")
	l.cmd.Args = []string{"mpgate-lab"}
	// Two threads for Go even on one core: the loop keeps one while it sleeps.
	l.cmd.Env = []string{childEnv + "=1", "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2"}
	l.cmd.Stderr = os.Stderr
	l.cmd.ExtraFiles = files
	l.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	if err := l.cmd.Start(); err != nil {
		l.cmd = nil
		return fmt.Errorf("lab: child process: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(l.control, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	r, err := l.exchange(s)
	l.realtime = r.Realtime
	return err
}

func (l *Lab) spaces() (all []space) {
	for _, p := range l.order {
		all = append(all, p.space)
	}
	if l.middle != nil {
		all = append(all, l.middle.space)
	}
	return all
}

// ask sends a request to the child and waits for its reply.
func (l *Lab) ask(q request) (reply, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exchange(q)
}

// exchange wants mu held.
func (l *Lab) exchange(message any) (r reply, err error) {
	if l.control < 0 {
		return r, errors.New("lab: closed")
	}
	if err := send(l.control, message); err != nil {
		return r, fmt.Errorf("lab: child process: %w", err)
	}
	eof, err := receive(l.control, &r)
	switch {
	case err != nil:
		return r, fmt.Errorf("lab: child process: %w", err)
	case eof:
		return r, errors.New("lab: the child process has ended; see standard error")
	case r.Err != "":
		return r, errors.New("lab: " + r.Err)
	}
	return r, nil
}

// Place returns the place of that name; it panics if there is none.
func (l *Lab) Place(name string) *Place {
	if p := l.places[name]; p != nil {
		return p
	}
	panic(fmt.Sprintf("lab: no place %q", name))
}

// Places returns all places, as the links named them.
func (l *Lab) Places() []*Place { return append([]*Place(nil), l.order...) }

// Link returns the link of that name; it panics if there is none.
func (l *Lab) Link(name string) *Link {
	if k := l.links[name]; k != nil {
		return k
	}
	panic(fmt.Sprintf("lab: no link %q", name))
}

// Links returns all links, as in the Spec.
func (l *Lab) Links() []*Link {
	var all []*Link
	for _, s := range l.spec.Links {
		all = append(all, l.links[s.Name])
	}
	return all
}

// Congestion says what congestion control is in force.
func (l *Lab) Congestion() Congestion { return l.congestion }

// Realtime says whether the emulator runs ahead of all ordinary processes. If
// not, the load can add to delays.
func (l *Lab) Realtime() bool { return l.realtime }

// EmulatorCPU is the CPU time that the child process has used. With links of
// the emulator that includes the kernel's work of receiving what they carry.
func (l *Lab) EmulatorCPU() (time.Duration, error) {
	r, err := l.ask(request{Link: -1, Stats: true})
	return r.CPU, err
}

// Name makes the places known to `ip netns` as PREFIX-PLACE, for users who
// want to look. Close removes the names, and so does the end of this process.
func (l *Lab) Name(prefix string) error {
	const dir = "/run/netns"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	for _, p := range l.order {
		name := filepath.Join(dir, prefix+"-"+p.name)
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
		if err != nil {
			return fmt.Errorf("lab: name %q: %w", name, err)
		}
		_ = f.Close()
		// Registered first, so that it is removed even after a kill.
		if _, err := l.ask(request{Link: -1, Name: name}); err != nil {
			_ = os.Remove(name)
			return err
		}
		if err := unix.Mount(p.space.path(), name, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("lab: name %q: %w", name, err)
		}
	}
	return nil
}

// Close ends all processes that run in places and takes the network down.
// Sockets that this process still has open there keep only their namespace,
// without links. Close may be called more than once.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control >= 0 {
		_ = unix.Close(l.control)
		l.control = -1
	}
	if l.cmd != nil {
		timer := time.AfterFunc(20*time.Second, func() { _ = l.cmd.Process.Kill() })
		if err := l.cmd.Wait(); err != nil {
			l.end = fmt.Errorf("lab: child process: %w", err)
		}
		timer.Stop()
		l.cmd = nil
	}
	for _, p := range l.order {
		p.close()
	}
	if l.middle != nil {
		l.middle.close()
	}
	l.order, l.middle = nil, nil
	return l.end
}
