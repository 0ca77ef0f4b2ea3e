package listener

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// Reopen opens a listener again with other options, next to the one that serves. It shares the
// sockets that can stay, so that no connection waiting at them is lost. Both may serve at the same
// time. When the new one has taken over, call old.Yield and then old.Close; otherwise Close the new
// one.
func Reopen(ctx context.Context, o Options, in *Inherited, old *Listener) (*Listener, error) {
	l := newListener(o)
	if err := l.reopen(ctx, in, old); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Listener) reopen(ctx context.Context, in *Inherited, old *Listener) error {
	if l.o.Systemd != "" && l.o.Systemd == old.o.Systemd && old.activated {
		files, err := old.Files()
		if err != nil {
			return err
		}
		var given []InheritedFile
		for i, f := range files {
			given = append(given, InheritedFile{f, old.sockets[i].info.Origin})
		}
		err = l.inherit(given)
		closeAll(files)
		if err == nil {
			l.placesOf(old)
			l.pair()
		}
		return err
	}
	if l.o.Systemd != "" && (len(l.o.Addresses) == 0 || in.Len() > 0) {
		return l.open(ctx, in)
	}
	for _, address := range l.o.Addresses {
		s, err := l.share(old, address)
		if err == nil && s == nil {
			s, err = l.openOwn(ctx, address, in)
		}
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, s)
	}
	return nil
}

// share duplicates the socket that old has opened at an address, nil where it has none.
func (l *Listener) share(old *Listener, address string) (*Socket, error) {
	i := slices.Index(old.o.Addresses, address)
	if i < 0 || old.activated {
		return nil, nil
	}
	s := old.sockets[i]
	if s.unix == nil {
		if l.o.Interface != old.o.Interface {
			return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("%s is open on interface %q, and a reload cannot change that to %q", address, old.o.Interface, l.o.Interface),
				Remedy: "restart mpgate (systemctl restart mpgate), or open another port for it"}
		}
		if want := wanted(l.o.MPTCP); s.info.Transport != want {
			return l.swapFor(old, s, want)
		}
	} else if l.o.fileMode() != old.o.fileMode() {
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("%s is open with mode %#o, and a reload cannot change that to %#o", address, old.o.fileMode(), l.o.fileMode()),
			Remedy: "restart mpgate (systemctl restart mpgate), or use another path"}
	}
	f, err := s.dup(l.o.Name)
	if err != nil {
		return nil, &Error{Listener: l.o.Name, What: "cannot share " + address, Err: err}
	}
	defer f.Close()
	info := s.info
	info.Listener = l.o.Name
	shared, err := l.adopt(f, info)
	if err == nil {
		shared.shares = s
	}
	return shared, err
}

// Yield transfers the shared sockets to next, so that Close does not close them.
func (l *Listener) Yield(next *Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range next.sockets {
		if s.shares != nil && slices.Contains(l.sockets, s.shares) {
			s.file, s.shares.file = s.shares.file, unixFile{}
			s.shares = nil
		}
	}
}

// Abandon undoes Open: it is Close that leaves unix sockets which others opened in the file system.
func (l *Listener) Abandon() error {
	for _, s := range l.sockets {
		if s.info.Origin != Own {
			s.file = unixFile{}
		}
	}
	return l.Close()
}

// GiveBack puts the sockets that were taken by name back into the set, for a listener that may need
// them later: they are passed only once.
func (l *Listener) GiveBack(in *Inherited) error {
	if !l.activated {
		return nil
	}
	files, err := l.Files()
	if err != nil {
		return err
	}
	for i, f := range files {
		in.Add(l.o.Systemd, f, l.sockets[i].info.Origin)
	}
	return nil
}

// Activated reports whether the sockets were taken by name (Options.Systemd): then the process that
// passed them keeps them open.
func (l *Listener) Activated() bool { return l.activated }

// Systemd is the name by which Activated sockets were taken.
func (l *Listener) Systemd() string { return l.o.Systemd }

// Inode identifies one of the sockets that Files returned.
func Inode(f *os.File) uint64 { return inodeOf(f) }

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
