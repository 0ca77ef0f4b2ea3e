package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"mpgate/config"
	"mpgate/proxy/files"
)

// maxContent is how large a file may be that is the body of an answer: it stays in memory.
const maxContent = 1 << 20

// contentPoll is how often such files are looked at for changes.
const contentPoll = 2 * time.Second

// keyError is an error of a key, without the names of the tables in which it is.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.key + ": " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// appendFaults appends an error with its place in a table.
func appendFaults(faults config.Errors, cfg *config.Config, table string, err error) config.Errors {
	var more config.Errors
	var k *keyError
	switch {
	case err == nil:
		return faults
	case errors.As(err, &more):
		return append(faults, more...)
	case errors.As(err, &k):
		return append(faults, placed(cfg, table+"."+k.key, k.err)...)
	}
	return append(faults, placed(cfg, table, err)...)
}

// content is the body of an answer of a route, and its media type: a file, or a text. Without
// either there is no type.
func (b *builder) content(key, file, text, mediaType string) ([]byte, string, error) {
	switch {
	case file == "" && text == "":
		return nil, "", nil
	case file == "":
		return []byte(text), cmp.Or(mediaType, "text/plain; charset=utf-8"), nil
	}
	mediaType = cmp.Or(mediaType, files.MediaType(file), "application/octet-stream")
	if b.explain {
		return nil, mediaType, nil
	}
	data, info, err := readContent(file)
	if err != nil {
		return nil, "", &keyError{key, err}
	}
	b.contents[file] = info
	return data, mediaType, nil
}

// readContent reads a file that is the body of an answer. The information is from before.
func readContent(file string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(file) // before it is opened: opening a FIFO would block
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err == nil && len(data) > maxContent {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxContent)
	}
	return data, info, err
}

// followContents rebuilds the generation when a file changed that is the body of an answer.
func (g *Gateway) followContents(ctx context.Context) error {
	tick := time.NewTicker(contentPoll)
	defer tick.Stop()
	look := contentLook{tried: map[string]fs.FileInfo{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n := g.gen.Load()
		if n == nil {
			continue
		}
		files := look.changed(n.contents)
		if len(files) == 0 {
			continue
		}
		switch done, err := g.rebuild(ctx); {
		case !done:
		case err != nil:
			g.log.Error("changed files of a route cannot be used; the old content remains active", "files", files, "err", err)
		default:
			g.log.Info("files of a route reloaded", "files", files, "generation", g.gen.Load().number)
		}
	}
}

// contentLook finds changed files by looking at them again and again.
type contentLook struct {
	before map[string]fs.FileInfo // at the last look, of files unlike what was read
	tried  map[string]fs.FileInfo // as they were when they were found to have changed
}

// changed returns the files that are unlike what was read, given for each. A file that is being
// written is left alone until it is the same at two looks, and each change is returned once.
func (l *contentLook) changed(read map[string]fs.FileInfo) (files []string) {
	now := map[string]fs.FileInfo{}
	for file, info := range read {
		present, err := os.Stat(file)
		if err != nil || sameFile(present, info) || sameFile(present, l.tried[file]) {
			continue
		}
		now[file] = present
		if sameFile(present, l.before[file]) {
			files = append(files, file)
			l.tried[file] = present
		}
	}
	l.before = now
	slices.Sort(files)
	return files
}

// sameFile reports whether a file did not change; nil is unlike all others.
func sameFile(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
