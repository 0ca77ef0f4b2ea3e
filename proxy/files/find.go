package files

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"mpgate/proxy/coding"
)

// File is an open file, as a client gets it.
type File struct {
	*os.File
	// Coding is that of a precompressed variant.
	Coding coding.Coding

	name string // of the file without the coding
	info fs.FileInfo
}

// Size is in bytes.
func (f *File) Size() int64 { return f.info.Size() }

// MediaType is the value of Content-Type.
func (f *File) MediaType() string { return MediaType(f.name) }

// Validator is what conditions are compared with.
func (f *File) Validator(now time.Time) Validator {
	return newValidator(f.info, f.Coding, now)
}

// Find opens the file for a canonical path. The error is ErrNotFound, ErrSlash, ErrDenied,
// ErrDescriptors or one of the system.
func (r *Root) Find(path []byte, accepted *coding.Accepted) (*File, error) {
	f, err := r.find(path, accepted)
	if errors.Is(err, os.ErrClosed) { // the directory was replaced in this moment
		f, err = r.find(path, accepted)
	}
	return f, err
}

func (r *Root) find(path []byte, accepted *coding.Accepted) (*File, error) {
	o, err := r.current()
	if err != nil {
		return nil, classify(err)
	}
	var buf [128]byte
	name, dir, ok := appendName(buf[:0], path)
	f, err := (*File)(nil), ErrNotFound
	if ok {
		f, err = r.named(o, string(name), dir)
	}
	if errors.Is(err, ErrNotFound) && r.fallback != "" {
		f, err = o.file(r.fallback)
	}
	if err != nil {
		return nil, err
	}
	if r.options.Precompressed {
		return o.variant(f, accepted), nil
	}
	return f, nil
}

// named opens the file with a name, or the index of the directory with it.
func (r *Root) named(o *opened, name string, dir bool) (*File, error) {
	index := r.options.Index
	switch {
	case !dir:
		f, err := o.file(name)
		if err == errDirectory && index != "" && o.isFile(name+"/"+index) {
			return nil, ErrSlash
		}
		return f, err
	case index == "":
		return nil, ErrNotFound
	}
	return o.file(name + index) // name is "" or ends with a slash
}

// variants are the codings of precompressed files, the smallest first.
var variants = [...]coding.Coding{coding.Zstd, coding.Brotli, coding.Gzip}

var suffixes = map[coding.Coding]string{coding.Zstd: ".zst", coding.Brotli: ".br", coding.Gzip: ".gz"}

// variant returns the precompressed variant of f that the client likes best, or f.
func (o *opened) variant(f *File, accepted *coding.Accepted) *File {
	left := variants
	for n := len(left); n > 0; n-- {
		c := accepted.Best(left[:n])
		if c == coding.Identity {
			break
		}
		if v, err := o.file(f.name + suffixes[c]); err == nil {
			_ = f.Close()
			v.name, v.Coding = f.name, c
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
