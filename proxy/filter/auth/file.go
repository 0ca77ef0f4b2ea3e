package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"mpgate/telemetry"
)

// file is a file that is read again when it changes. It is polled: a rename into place, a swapped
// symbolic link above it and a change on a network file system all show in what stat says.
type file struct {
	path  string
	most  int64 // bytes
	poll  time.Duration
	apply func(data []byte) error // uses the contents, or leaves all as it is
	log   *slog.Logger
	meter *telemetry.AuthSourceMeter
	read  fs.FileInfo // as it was when it was read, or tried to
}

// load reads the file.
func (f *file) load() error {
	data, info, err := readRegular(f.path, f.most)
	f.read = info
	if err == nil {
		err = f.apply(data)
	}
	f.meter.Read(time.Now(), err)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// follow loads the file again when it has changed. If it cannot be used, what was read before
// remains in use. A file that is being written is left alone until it has been the same for one
// poll.
func (f *file) follow(ctx context.Context) error {
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	var before fs.FileInfo
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now, err := os.Stat(f.path)
		if err != nil {
			now = nil
		}
		settled := same(now, before)
		before = now
		if !settled || same(now, f.read) {
			continue
		}
		if err := f.load(); err != nil {
			f.log.Error("changed file cannot be used; what was read before remains in use", "file", f.path, "err", err)
			if f.read == nil {
				f.read = now // told once
			}
			continue
		}
		f.log.Info("file read again", "file", f.path)
	}
}

// same reports whether a file did not change; nil is one that is not there.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// readRegular reads a file of at most that many bytes. The information is from before it was read;
// nil if the file is not there.
func readRegular(path string, most int64) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, info, errors.New("not a regular file")
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, info, bare(err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, info, bare(err)
	}
	if int64(len(data)) > most {
		return nil, info, fmt.Errorf("larger than %d MiB", most>>20)
	}
	after, err := r.Stat()
	if err != nil || !same(info, after) {
		return nil, nil, errors.New("changed while it was read")
	}
	return data, info, nil
}

// bare returns the cause of an error that also names a path.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
