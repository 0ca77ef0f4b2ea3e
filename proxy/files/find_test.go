package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
	"mpgate/proxy/coding"
	"mpgate/proxy/message"
)

// tree makes files; names that end with a slash are directories.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		put(t, root, name, text)
	}
	return root
}

func put(t testing.TB, root, name, text string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, "/") {
		_ = os.Mkdir(p, 0o755)
	} else if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o Options) *Root {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func accept(value string) *coding.Accepted {
	h := new(message.Header)
	h.AddString(message.AcceptEncoding, value)
	a := coding.Accept(h)
	return &a
}

// read gives the text of what is found, or the error.
func read(r *Root, path, encodings string) string {
	f, err := r.Find([]byte(path), accept(encodings))
	if err != nil {
		return "error: " + err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

func TestFind(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "secret", "dir/index.html": "secret"})
	root := tree(t, map[string]string{
		"index.html": "home", "a/index.html": "a", "a/x.css": "css", "empty/": "", ".env": "secret", "a/.git/config": "secret",
		".well-known/security.txt": "contact", "b/file": "b", "ä b.txt": "name",
	})
	for link, to := range map[string]string{
		"inside": "a/x.css", "abs": outside + "/secret", "up": "../" + filepath.Base(outside) + "/secret", "dirlink": outside,
		"loop": "loop", "a/back": "../b/file", "gone": "none", "proc": "/proc/self/environ",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err == nil {
		defer syscall.Close(fd)
		if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Join(root, "sock")}); err != nil {
			t.Fatal(err)
		}
	}
	const none, slash = "error: there is no such file", "error: the file is a directory"
	r := open(t, Options{Root: root, Index: "index.html"})
	for path, want := range map[string]string{
		"/": "home", "/index.html": "home", "/a/": "a", "/a": slash, "/a/x.css": "css", "/empty": none + ": it is a directory", "/empty/": none,
		"/.env": none, "/a/.git/config": none, "/.well-known/security.txt": "contact", "/%C3%A4%20b.txt": "name", "/A/": none,
		"/index.html/": none, "/index.html/x": none, "/none": none, "/a/../.env": none, "/a%2Fx.css": none, "/index.html%00": none,
		"/inside": "css", "/a/back": "b", "/abs": none, "/up": none, "/dirlink/secret": none, "/dirlink/": none, "/dirlink": none,
		"/dirlink/dir": none, "/loop": none, "/gone": none, "/proc": none, "/fifo": none, "/sock": none,
		"/" + strings.Repeat("x", 300): none, "/" + strings.Repeat("x/", 3000): none,
	} {
		for range 2 { // the second time from the cache
			if got := read(r, path, ""); !strings.HasPrefix(got, want) {
				t.Errorf("%.40s is %q, want %q", path, got, want)
			}
		}
	}
	bare := open(t, Options{Root: root})
	for path, want := range map[string]string{"/": none, "/a": none + ": it is a directory", "/a/": none, "/a/index.html": "a"} {
		if got := read(bare, path, ""); got != want {
			t.Errorf("without an index %s is %q, want %q", path, got, want)
		}
	}
	spa := open(t, Options{Root: root, Index: "index.html", Fallback: "/index.html"})
	for path, want := range map[string]string{"/": "home", "/a/x.css": "css", "/none": "home", "/.env": "home", "/empty/": "home", "/empty": "home", "/a": slash} {
		if got := read(spa, path, ""); got != want {
			t.Errorf("with a fallback %s is %q, want %q", path, got, want)
		}
	}
}

// A device is not opened as a file, whoever may read it.
func TestDevice(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mknod(filepath.Join(root, "zero"), syscall.S_IFCHR|0o666, 1<<8|5); err != nil {
		need.Missing(t, "making a device needs root: %v", err)
	}
	if got := read(open(t, Options{Root: root}), "/zero", ""); got != "error: there is no such file" {
		t.Errorf("a device is %q", got)
	}
}

func TestPrecompressed(t *testing.T) {
	root := tree(t, map[string]string{
		"all.js": "plain", "all.js.zst": "zstd", "all.js.br": "br", "all.js.gz": "gzip", "gz.js": "plain", "gz.js.gz": "gzip", "lone.js.gz": "gzip",
		"dir.js": "plain", "dir.js.gz/x": "",
	})
	r := open(t, Options{Root: root, Precompressed: true})
	for _, tt := range []struct{ path, encodings, want string }{
		{"/all.js", "", "plain"}, {"/all.js", "gzip", "gzip"}, {"/all.js", "gzip, br", "br"}, {"/all.js", "gzip, br, zstd", "zstd"},
		{"/all.js", "gzip, br;q=0.5", "gzip"}, {"/all.js", "br;q=0, gzip;q=0", "plain"}, {"/all.js", "*", "zstd"}, {"/all.js", "*, zstd;q=0", "br"},
		{"/all.js", "identity, gzip;q=0.5", "plain"}, {"/gz.js", "gzip, br, zstd", "gzip"}, {"/gz.js", "br, zstd", "plain"},
		{"/lone.js", "gzip", "error: there is no such file"}, {"/all.js.gz", "gzip", "gzip"}, {"/dir.js", "gzip", "plain"},
	} {
		if got := read(r, tt.path, tt.encodings); got != tt.want {
			t.Errorf("%s with %q is %q, want %q", tt.path, tt.encodings, got, tt.want)
		}
	}
	f, err := r.Find([]byte("/all.js"), accept("gzip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := r.Find([]byte("/all.js"), accept(""))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if f.Coding != coding.Gzip || f.MediaType() != "text/javascript; charset=utf-8" || f.Validator().ETag == plain.Validator().ETag {
		t.Errorf("%v, %s, %s and %s", f.Coding, f.MediaType(), f.Validator().ETag, plain.Validator().ETag)
	}
	if got := read(open(t, Options{Root: root}), "/all.js", "gzip"); got != "plain" {
		t.Errorf("without precompressed: %q", got)
	}
}

// What a request gets is what is there at that time, although files are kept open.
func TestFindSeesChanges(t *testing.T) {
	root := tree(t, map[string]string{"f": "one", "d/f": "old", "e/f": "new"})
	if err := os.Symlink("d", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	r := open(t, Options{Root: root})
	check := func(what, path, want string) {
		t.Helper()
		if got := read(r, path, ""); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("at first", "/f", "one")
	tag := func() string {
		f, err := r.Find([]byte("/f"), accept(""))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Validator().ETag
	}
	first := tag()
	put(t, root, "f", "longer")
	check("written in place", "/f", "longer")
	put(t, root, "g", "other!")
	if err := os.Rename(filepath.Join(root, "g"), filepath.Join(root, "f")); err != nil {
		t.Fatal(err)
	}
	check("replaced", "/f", "other!")
	if tag() == first {
		t.Error("the entity tag is the same")
	}
	check("below a link", "/link/f", "old")
	if err := os.Remove(filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("e", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	check("link moved", "/link/f", "new")
	if err := os.Remove(filepath.Join(root, "f")); err != nil {
		t.Fatal(err)
	}
	check("removed", "/f", "error: there is no such file")
	if err := os.Chmod(filepath.Join(root, "e/f"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		check("not readable any more", "/link/f", "error: "+ErrDenied.Error())
	}
}

// A root that a deployment replaces is opened anew.
func TestRootIsReplaced(t *testing.T) {
	dir := tree(t, map[string]string{"v1/f": "one", "v2/f": "two"})
	link := filepath.Join(dir, "current")
	if err := os.Symlink("v1", link); err != nil {
		t.Fatal(err)
	}
	r := open(t, Options{Root: link})
	if got := read(r, "/f", ""); got != "one" {
		t.Fatal(got)
	}
	if err := os.Symlink("v2", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	r.looked.Store(r.looked.Load() - int64(lookAgain))
	if got := read(r, "/f", ""); got != "two" {
		t.Errorf("%q after the replacement", got)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	r.looked.Store(r.looked.Load() - int64(lookAgain))
	if got := read(r, "/f", ""); got != "two" {
		t.Errorf("%q after the path is gone", got)
	}
}

// Dates that archives for reproducible builds have are no validators.
func TestValidatorOfFixedDates(t *testing.T) {
	root := tree(t, map[string]string{"f": "one"})
	name := filepath.Join(root, "f")
	r := open(t, Options{Root: root})
	tag := func() *Validator {
		f, err := r.Find([]byte("/f"), accept(""))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Validator()
	}
	set := func(at time.Time) {
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	set(time.Unix(1, 0))
	before := tag()
	put(t, root, "f2", "two")
	if err := os.Rename(filepath.Join(root, "f2"), name); err != nil {
		t.Fatal(err)
	}
	set(time.Unix(1, 0))
	after := tag()
	if before.ETag == after.ETag || before.LastModified != "" {
		t.Errorf("two files with the same date and size: %+v and %+v", before, after)
	}
	set(time.Now().Add(time.Hour))
	if v := tag(); v.LastModified != "" || v.ETag[0] != '"' {
		t.Errorf("a date in the future is told: %+v", v)
	}
	set(time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC))
	if v := tag(); v.LastModified != "Mon, 03 Feb 2020 04:05:06 GMT" {
		t.Errorf("%+v", v)
	}
}

// limit counts descriptors.
type limit struct{ left atomic.Int64 }

func (p *limit) Acquire() bool {
	if p.left.Add(-1) < 0 {
		p.left.Add(1)
		return false
	}
	return true
}

func (p *limit) Release() { p.left.Add(1) }

func TestDescriptorsAreBounded(t *testing.T) {
	root := tree(t, map[string]string{"a": "a", "b": "b", "c": "c"})
	p := new(limit)
	p.left.Store(2)
	r := open(t, Options{Root: root, Limit: p})
	find := func(path string) File {
		f, err := r.Find([]byte(path), accept(""))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, a2, b := find("/a"), find("/a"), find("/b")
	if _, err := r.Find([]byte("/c"), accept("")); !errors.Is(err, ErrDescriptors) {
		t.Errorf("a third file: %v", err)
	}
	if r.CloseIdle() {
		t.Error("a file that is in use was closed")
	}
	a.Close()
	if r.CloseIdle() {
		t.Error("a file that is still in use was closed")
	}
	a2.Close()
	if !r.CloseIdle() || r.CloseIdle() {
		t.Error("a file that is not in use was not closed once")
	}
	if got := read(r, "/c", ""); got != "c" {
		t.Error(got)
	}
	b.Close()
	d := r.open.Load()
	d.cache.mu.Lock()
	d.cache.evict(len(d.cache.files), 0)
	d.cache.mu.Unlock()
	if n := p.left.Load(); n != 2 {
		t.Errorf("%d descriptors are left, want 2", n)
	}
}

// A closed root leaves nothing open once nobody uses it, and can be used again.
func TestClose(t *testing.T) {
	p := new(limit)
	p.left.Store(10)
	r := open(t, Options{Root: tree(t, map[string]string{"a": "a", "b": "b"}), Limit: p})
	f, err := r.Find([]byte("/a"), accept(""))
	if err != nil {
		t.Fatal(err)
	}
	_ = read(r, "/b", "")
	r.Close()
	if n := p.left.Load(); n != 9 {
		t.Errorf("%d descriptors are left while a file is in use, want 9", n)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil || b[0] != 'a' {
		t.Errorf("the file that is in use: %q, %v", b, err)
	}
	f.Close()
	if n := p.left.Load(); n != 10 {
		t.Errorf("%d descriptors are left, want 10", n)
	}
	if got := read(r, "/b", ""); got != "b" {
		t.Errorf("after Close: %q", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	root := t.TempDir()
	p := new(limit)
	p.left.Store(1000)
	r := open(t, Options{Root: root, Limit: p})
	for i := range maxCached + 50 {
		name := "f" + itoa(int64(i))
		put(t, root, name, name)
		if got := read(r, "/"+name, ""); got != name {
			t.Fatal(got)
		}
	}
	if open := 1000 - p.left.Load(); open != maxCached {
		t.Errorf("%d files are open, want %d", open, maxCached)
	}
	d := r.open.Load()
	for _, s := range d.cache.files {
		s.used -= 2 * keepFor
	}
	d.cache.sweep()
	if open := 1000 - p.left.Load(); open != 0 {
		t.Errorf("%d files are open after the sweep, want none", open)
	}
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"root: no directory":                              {},
		"index: must be the name of a file (got \"a/b\")": {Root: "/", Index: "a/"},
		"index: must":                                     {Root: "/", Index: "../a"},
		"fallback: must be the path of a file":            {Root: "/", Fallback: "index.html"},
		"fallback: must":                                  {Root: "/", Fallback: "/"},
	} {
		if want == "index: must be the name of a file (got \"a/b\")" {
			want = "index: must be the name of a file (got \"a/\")"
		}
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	r, err := New(Options{Root: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
	r, err = New(Options{Root: t.TempDir(), Fallback: "/index.html"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); !errors.Is(err, ErrNotFound) {
		t.Errorf("a fallback that is not there: %v", err)
	}
}

func TestMediaTypes(t *testing.T) {
	for name, want := range map[string]string{
		"a.html": "text/html; charset=utf-8", "A.HTML": "text/html; charset=utf-8", "a/b.js": "text/javascript; charset=utf-8",
		"a.svg": "image/svg+xml", "a.json": "application/json", "a.tar.gz": "application/gzip", "LICENSE": "",
		"a.unknown": "", "a.": "", "a.woff2": "font/woff2",
	} {
		if got := MediaType(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
