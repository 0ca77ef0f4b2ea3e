package files

import (
	"os"
	"sync"
	"time"

	"mpgate/task"
)

// cache keeps files open between requests: to look up whether a name still leads to the same state
// of the same file takes one system call, to open it and close it again several. Responses that are
// sent at the same time share a descriptor.
type cache struct {
	limit Limit

	mu    sync.Mutex // guards what follows, and refs, cached and used of the files
	files map[string]*shared
	swept bool // a sweep will follow
	over  bool // nothing is kept any more
}

const (
	// maxCached is how many files of a directory are kept open.
	maxCached = 256
	// keepFor is how long a file is kept open that nobody asks for. It bounds for how long a file
	// that was deleted takes space, and a file system cannot be unmounted.
	keepFor = 5 * time.Second
)

// shared is an open file, for all responses that send it.
type shared struct {
	*os.File
	name      string // below the directory
	state     state
	validator Validator
	cache     *cache

	refs   int // responses that use it
	cached bool
	used   time.Duration // when that was last, since epoch
}

// take returns the file with a name, in use; nil if there is none.
func (c *cache) take(name []byte) *shared {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.files[string(name)]
	if s != nil {
		s.refs++
	}
	return s
}

// add keeps a file for later, if there is room.
func (c *cache) add(s *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	if before := c.files[s.name]; before != nil {
		c.remove(before)
	} else if len(c.files) >= maxCached && !c.evict(1, 0) {
		return
	}
	if c.files == nil {
		c.files = map[string]*shared{}
	}
	c.files[s.name] = s
	s.cached = true
	c.sweepLater()
}

// drop forgets a file that has changed.
func (c *cache) drop(s *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[s.name] == s {
		c.remove(s)
	}
}

// remove takes a file out of the cache; mu is held.
func (c *cache) remove(s *shared) {
	delete(c.files, s.name)
	s.cached = false
	if s.refs == 0 {
		c.closeFile(s)
	}
}

func (c *cache) closeFile(s *shared) {
	_ = s.File.Close()
	if c.limit != nil {
		c.limit.Release()
	}
}

// close closes the files that are not in use. The others follow when they are released.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, s := range c.files {
		c.remove(s)
	}
}

// evict closes up to n files that are not in use since a time, any of them, and says whether it
// closed one; mu is held.
func (c *cache) evict(n int, unused time.Duration) bool {
	closed, now := 0, time.Since(epoch)
	for _, s := range c.files {
		if closed < n && s.refs == 0 && now-s.used >= unused {
			c.remove(s)
			closed++
		}
	}
	return closed > 0
}

// release ends the use of a file.
func (s *shared) release() {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	s.refs--
	s.used = time.Since(epoch)
	if s.refs == 0 && !s.cached {
		c.closeFile(s)
	}
}

// sweepLater closes in a while what was not used until then; mu is held.
func (c *cache) sweepLater() {
	if c.swept {
		return
	}
	c.swept = true
	task.AfterFunc(keepFor, "files: close those that are not used", c.sweep)
}

func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept = false
	c.evict(len(c.files), keepFor)
	if len(c.files) > 0 && !c.over {
		c.sweepLater()
	}
}

// CloseIdle closes a file that no response uses; false: there is none.
func (r *Root) CloseIdle() bool {
	d := r.open.Load()
	if d == nil {
		return false
	}
	d.cache.mu.Lock()
	defer d.cache.mu.Unlock()
	return d.cache.evict(1, 0)
}
