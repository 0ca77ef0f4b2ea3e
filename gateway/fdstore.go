package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"time"

	"mpgate/listener"
)

// fdStore keeps the sockets that mpgate opened itself in systemd's file descriptor store, so that
// they keep listening during a restart. Those of a .socket unit are kept by systemd anyway.
type fdStore struct {
	notifier *Notifier
	log      *slog.Logger
	names    map[uint64]string // of what is in the store, by the socket's inode
	next     int
}

func newFDStore(n *Notifier, in *listener.Inherited, before *Parent, log *slog.Logger) *fdStore {
	s := &fdStore{notifier: n, log: log, names: map[uint64]string{}}
	if before != nil {
		maps.Copy(s.names, before.stored)
	}
	for _, spare := range in.Stored() {
		s.names[spare.Inode] = spare.Name
	}
	return s
}

// active reports whether there is a store.
func (s *fdStore) active() bool { return s.notifier != nil && s.notifier.Store > 0 }

// drop removes an unused socket from the store, which must have closed it before the same address
// can be bound again.
func (s *fdStore) drop(spare listener.Spare) {
	s.log.Warn("a socket of an earlier process is not used", "address", spare.Address, "from", spare.Origin.String(), "why", spare.Why)
	if spare.Origin != listener.Store {
		return
	}
	s.remove(spare.Inode, spare.Name)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.notifier.barrier(ctx); err != nil {
		s.log.Warn("systemd did not confirm that it closed a socket", "name", spare.Name, "err", err)
	}
}

func (s *fdStore) remove(inode uint64, name string) {
	s.notifier.send("FDSTOREREMOVE=1", "FDNAME="+name)
	delete(s.names, inode)
}

// sync makes the store hold exactly the sockets that the generation opened itself.
func (s *fdStore) sync(n *generation) {
	if !s.active() {
		return
	}
	used := map[uint64]bool{}
	for name, f := range n.listeners {
		if f.sockets.Activated() {
			continue
		}
		files, err := f.sockets.Files()
		if err != nil {
			s.log.Warn("sockets will not survive a restart", "listener", name, "err", err)
			continue
		}
		for _, file := range files {
			inode := listener.Inode(file)
			used[inode] = true
			s.add(inode, file)
			file.Close()
		}
	}
	for inode, name := range s.names {
		if !used[inode] {
			s.log.Info("removed an unused socket from systemd's file descriptor store", "name", name)
			s.remove(inode, name)
		}
	}
}

func (s *fdStore) add(inode uint64, file *os.File) {
	if _, ok := s.names[inode]; ok {
		return
	}
	if len(s.names) >= s.notifier.Store {
		s.log.Warn("systemd's file descriptor store is full; this socket will not survive a restart", "remedy", "FileDescriptorStoreMax= in the unit",
			"max", s.notifier.Store)
		return
	}
	taken := map[string]bool{}
	for _, name := range s.names {
		taken[name] = true
	}
	name := fmt.Sprintf("mpgate-%d", s.next)
	for taken[name] {
		s.next++
		name = fmt.Sprintf("mpgate-%d", s.next)
	}
	if err := s.notifier.sendFiles([]*os.File{file}, "FDSTORE=1", "FDNAME="+name); err != nil {
		s.log.Warn("systemd's file descriptor store did not accept a socket", "err", err)
		return
	}
	s.names[inode] = name
}

// holds reports whether the store keeps the sockets of a listener.
func (s *fdStore) holds(f *front) bool {
	if !s.active() || f.sockets.Activated() {
		return false
	}
	files, err := f.sockets.Files()
	if err != nil {
		return false
	}
	all := true
	for _, file := range files {
		_, ok := s.names[listener.Inode(file)]
		all = all && ok
		file.Close()
	}
	return all
}
