package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	Precompressed bool   // use NAME.zst, NAME.br and NAME.gz where the client accepts them
	// Limit, if set, bounds the files that are open.
	Limit Limit
}

// Limit bounds the file descriptors in use.
type Limit interface {
	Acquire() bool // false: none may be used
	Release()      // follows an Acquire that was true
}

// Root is a directory with files. No name leads out of it, whatever its symbolic links say (see
// os.Root).
type Root struct {
	options  Options
	fallback string // a name, or ""

	mu     sync.Mutex // held to open the directory
	open   atomic.Pointer[directory]
	looked atomic.Int64 // when, since epoch
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

// Names returns the full names of the files for a canonical path, in the order in which they are
// looked for. It does not look for them.
func (r *Root) Names(path []byte) (list []string) {
	if name, dir, ok := appendName(nil, path); ok && (!dir || r.options.Index != "") {
		full := filepath.Join(r.options.Root, string(name))
		if dir {
			full = filepath.Join(full, r.options.Index)
		}
		list = append(list, full)
	}
	if r.fallback != "" {
		list = append(list, filepath.Join(r.options.Root, r.fallback))
	}
	return list
}

// Check opens the directory, and looks for the fallback.
func (r *Root) Check() error {
	d, err := r.current()
	if err != nil {
		return err
	}
	if r.fallback == "" {
		return nil
	}
	f, err := d.file([]byte(r.fallback))
	if err != nil {
		return fmt.Errorf("fallback %s: %w", r.options.Fallback, err)
	}
	f.Close()
	return nil
}

// current returns the directory. If it cannot be looked up any more, it is the last one.
func (r *Root) current() (*directory, error) {
	now := int64(time.Since(epoch))
	if d := r.open.Load(); d != nil && now-r.looked.Load() < int64(lookAgain) {
		return d, nil
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
	var d *directory
	if err == nil {
		d, err = openDirectory(r.options.Root, r.options.Limit)
	}
	if err != nil {
		return before, err
	}
	r.open.Store(d)
	if before != nil {
		before.close()
	}
	return d, nil
}

// Close closes what is open, as soon as no response uses it. A request that comes later opens it
// again.
func (r *Root) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.open.Swap(nil); d != nil {
		d.close()
	}
}

// directory is a directory that was opened.
type directory struct {
	root  *os.Root
	self  *os.File // to look up names
	info  fs.FileInfo
	cache cache
}

func openDirectory(name string, limit Limit) (*directory, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	info, err := self.Stat()
	if err != nil {
		_ = root.Close()
		_ = self.Close()
		return nil, err
	}
	d := &directory{root: root, self: self, info: info}
	d.cache.limit = limit
	return d, nil
}

// close closes the directory. Requests that were about to use it get os.ErrClosed.
func (d *directory) close() {
	d.cache.close()
	_ = d.root.Close()
	_ = d.self.Close()
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

// file opens a regular file, or takes it from the cache if the name still is that of the same file
// in the same state.
func (d *directory) file(name []byte) (File, error) {
	if s := d.cache.take(name); s != nil {
		if now, err := stateOf(d.self, s.name); err == nil && now == s.state {
			return File{shared: s, plain: s.name}, nil
		}
		d.cache.drop(s)
		s.release()
	}
	s, err := d.openFile(string(name))
	if err != nil {
		return File{}, err
	}
	d.cache.add(s)
	return File{shared: s, plain: s.name}, nil
}

// openFile opens a regular file. To open a FIFO does not wait, and what is neither a file nor a
// directory does not count.
func (d *directory) openFile(name string) (*shared, error) {
	if d.cache.limit != nil && !d.cache.limit.Acquire() {
		return nil, ErrDescriptors
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err == nil {
		var s state
		if s, err = stateOfFile(f); err == nil && s.isRegular() {
			return &shared{File: f, name: name, state: s, validator: newValidator(&s, name, time.Now()), cache: &d.cache, refs: 1}, nil
		}
		_ = f.Close()
		switch {
		case err != nil:
		case s.isDirectory():
			err = errDirectory
		default:
			err = ErrNotFound
		}
	}
	if d.cache.limit != nil {
		d.cache.limit.Release()
	}
	return nil, classify(err)
}

// isFile reports whether a name is that of a regular file.
func (d *directory) isFile(name string) bool {
	info, err := d.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// classify tells apart what requests are answered with. What os.Root itself refuses, such as a name
// that leads out of the directory, has no errno.
func classify(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, os.ErrClosed):
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
