package files

import (
	"cmp"
	"errors"
	"os"

	"mpgate/proxy/coding"
)

// File is an open file, as a client gets it.
type File struct {
	*shared
	// Coding is that of a precompressed variant.
	Coding coding.Coding

	plain string // the name of the file without the coding
}

// Size is in bytes.
func (f *File) Size() int64 { return f.state.size }

// MediaType is the value of Content-Type.
func (f *File) MediaType() string {
	return cmp.Or(MediaType(f.plain), "application/octet-stream")
}

// Validator is what conditions are compared with.
func (f *File) Validator() *Validator { return &f.validator }

// Close ends the use of the file.
func (f *File) Close() { f.release() }

// Find opens the file for a canonical path. The error is ErrNotFound, ErrSlash, ErrDenied,
// ErrDescriptors or one of the system.
func (r *Root) Find(path []byte, accepted *coding.Accepted) (File, error) {
	f, err := r.find(path, accepted)
	if errors.Is(err, os.ErrClosed) { // the directory was replaced in this moment
		f, err = r.find(path, accepted)
	}
	return f, err
}

func (r *Root) find(path []byte, accepted *coding.Accepted) (File, error) {
	d, err := r.current()
	if err != nil {
		return File{}, classify(err)
	}
	var buf [128]byte
	name, dir, ok := appendName(buf[:0], path)
	f, err := File{}, ErrNotFound
	if ok {
		f, err = r.named(d, name, dir)
	}
	if errors.Is(err, ErrNotFound) && r.fallback != "" {
		f, err = d.file([]byte(r.fallback))
	}
	if err == nil && r.options.Precompressed {
		f = d.variant(f, accepted)
	}
	return f, err
}

// named opens the file with a name, or the index of the directory with it.
func (r *Root) named(d *directory, name []byte, dir bool) (File, error) {
	index := r.options.Index
	switch {
	case !dir:
		f, err := d.file(name)
		if err == errDirectory && index != "" && d.isFile(string(name)+"/"+index) {
			return File{}, ErrSlash
		}
		return f, err
	case index == "":
		return File{}, ErrNotFound
	}
	if len(name) > 0 {
		name = append(name, '/')
	}
	return d.file(append(name, index...))
}

// variants are the codings of precompressed files, the smallest first.
var variants = [...]coding.Coding{coding.Zstd, coding.Brotli, coding.Gzip}

var suffixes = map[coding.Coding]string{coding.Zstd: ".zst", coding.Brotli: ".br", coding.Gzip: ".gz"}

// variant returns the precompressed variant of f that the client likes best, or f.
func (d *directory) variant(f File, accepted *coding.Accepted) File {
	left := variants
	for n := len(left); n > 0; n-- {
		c := accepted.Best(left[:n])
		if c == coding.Identity {
			break
		}
		if v, err := d.file([]byte(f.plain + suffixes[c])); err == nil {
			f.Close()
			v.plain, v.Coding = f.plain, c
			return v
		}
		i := 0
		for left[i] != c {
			i++
		}
		copy(left[i:n], left[i+1:n])
	}
	return f
}
