package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// state is what tells a file, and one state of it, from others. Times are in ns since the beginning
// of Unix time.
type state struct {
	device, inode     uint64
	mode              uint32
	size              int64
	modified, changed int64
}

func (s *state) isRegular() bool   { return s.mode&unix.S_IFMT == unix.S_IFREG }
func (s *state) isDirectory() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }

// stateOf looks a name up from a directory. The name may lead out of it: the result says only
// whether the name still leads to the same file.
func stateOf(dir *os.File, name string) (state, error) {
	var st unix.Stat_t
	err := retried(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, 0) })
	return newState(&st), err
}

func stateOfFile(f *os.File) (state, error) {
	var st unix.Stat_t
	err := retried(func() error { return unix.Fstat(int(f.Fd()), &st) })
	return newState(&st), err
}

func newState(st *unix.Stat_t) state {
	return state{
		device: uint64(st.Dev), inode: st.Ino, mode: uint32(st.Mode), size: st.Size,
		modified: st.Mtim.Nano(), changed: st.Ctim.Nano(),
	}
}

// retried calls f until no signal interrupts it.
func retried(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
