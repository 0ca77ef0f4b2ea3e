package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options say which files are served.
type Options struct {
	Root          string // a directory
	Index         string // the name of the file for a directory; "": none
	Fallback      string // the path of the file if there is none, such as "/index.html"; "": none
	Precompressed bool   // use NAME.zst, NAME.br and NAME.gz instead of NAME where the client accepts them
}

// Root is a directory with files. No name leads out of it, whatever its symbolic links say (see
// os.Root).
type Root struct {
	options  Options
	fallback string // a name, or ""

	mu     sync.Mutex // held to open the directory
	open   atomic.Pointer[opened]
	looked atomic.Int64 // when, since epoch
}

// opened is a directory that was opened.
type opened struct {
	dir  *os.Root
	info fs.FileInfo
}

// lookAgain is how often the path of the root is looked up. A deployment may replace the directory,
// or the symbolic link that leads to it.
const lookAgain = time.Second

var epoch = time.Now()

// New makes a Root. It opens nothing; the first request does. Its error says which option is wrong.
func New(o Options) (*Root, error) {
	r := &Root{options: o}
	if o.Root == "" {
		return nil, errors.New("root: no directory")
	}
	if index, dir, ok := appendName(nil, []byte("/"+o.Index)); o.Index != "" && (!ok || dir || string(index) != o.Index) {
		return nil, fmt.Errorf("index: must be the name of a file (got %q)", o.Index)
	}
	if o.Fallback != "" {
		name, dir, ok := appendName(nil, []byte(o.Fallback))
		if !ok || dir {
			return nil, fmt.Errorf("fallback: must be the path of a file that is not hidden, such as \"/index.html\" (got %q)", o.Fallback)
		}
		r.fallback = string(name)
	}
	return r, nil
}

// Options returns the options.
func (r *Root) Options() Options { return r.options }

// Check opens the directory, and looks for the fallback.
func (r *Root) Check() error {
	o, err := r.current()
	if err != nil {
		return err
	}
	if r.fallback == "" {
		return nil
	}
	f, err := o.file(r.fallback)
	if err != nil {
		return fmt.Errorf("fallback %s: %w", r.options.Fallback, err)
	}
	return f.Close()
}

// current returns the directory. If it cannot be looked up any more, it is the last one.
func (r *Root) current() (*opened, error) {
	o, now := r.open.Load(), int64(time.Since(epoch))
	if o != nil && now-r.looked.Load() < int64(lookAgain) {
		return o, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.open.Load()
	if before != nil && now-r.looked.Load() < int64(lookAgain) {
		return before, nil
	}
	r.looked.Store(now)
	info, err := os.Stat(r.options.Root)
	if before != nil && (err != nil || os.SameFile(info, before.info)) {
		return before, nil
	}
	if err == nil {
		o, err = openRoot(r.options.Root)
	}
	if err != nil {
		return before, err
	}
	r.open.Store(o)
	if before != nil {
		_ = before.dir.Close()
	}
	return o, nil
}

func openRoot(name string) (*opened, error) {
	dir, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat(".")
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return &opened{dir, info}, nil
}

// What opening a file may give.
var (
	ErrNotFound = errors.New("there is no such file")
	// ErrSlash is a directory with an index whose path does not end with a slash.
	ErrSlash = errors.New("the file is a directory")
	// ErrDenied is a file that the gateway may not read.
	ErrDenied = errors.New("the file cannot be read: permission denied")
	// ErrDescriptors is a shortage of file descriptors.
	ErrDescriptors = errors.New("no file descriptor is left")
)

// errDirectory is a directory instead of a file.
var errDirectory = fmt.Errorf("%w: it is a directory", ErrNotFound)

// file opens a regular file. To open a FIFO does not wait, and what is neither a file nor a
// directory does not count.
func (o *opened) file(name string) (*File, error) {
	f, err := o.dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, classify(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular():
		return &File{File: f, name: name, info: info}, nil
	case info.IsDir():
		err = errDirectory
	default:
		err = ErrNotFound
	}
	_ = f.Close()
	return nil, err
}

// isFile reports whether a name is that of a regular file.
func (o *opened) isFile(name string) bool {
	info, err := o.dir.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// classify tells apart what requests are answered with. What os.Root itself refuses, such as a name
// that leads out of the directory, has no errno.
func classify(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrClosed):
		return err
	case !errors.As(err, &errno):
		return ErrNotFound
	}
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.ENXIO, syscall.ENODEV, syscall.EILSEQ:
		return ErrNotFound
	case syscall.EACCES, syscall.EPERM:
		return ErrDenied
	case syscall.EMFILE, syscall.ENFILE:
		return ErrDescriptors
	}
	return err
}
