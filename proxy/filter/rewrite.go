package filter

import (
	"bytes"
	"fmt"
	"strings"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Rewrite replaces the path of requests. What servers say about paths follows back in responses:
// Location, Content-Location, and the paths of cookies.
type Rewrite struct {
	before, after template.Template // the star
	star          bool
	options       RewriteOptions
}

// RewriteOptions are the options of a route that say which paths it takes.
type RewriteOptions struct {
	KeepEncodedSlash bool // let %2F and %5C in a path pass
	KeepSlashes      bool // leave slashes in a row as they came
}

// NewRewrite makes a Rewrite to a path. A * in it is what the last * of the route's path matched;
// variables can stand in it.
func NewRewrite(path string, o RewriteOptions) (*Rewrite, error) {
	f := &Rewrite{options: o}
	before, after, star := strings.Cut(path, "*")
	f.star = star
	switch {
	case !strings.HasPrefix(path, "/"):
		return nil, fmt.Errorf(`must begin with "/", for example "/*" (got %q)`, path)
	case strings.Contains(after, "*"):
		return nil, fmt.Errorf(`must have at most one "*" (got %q)`, path)
	case strings.ContainsAny(path, "?#"):
		return nil, fmt.Errorf(`must be a path without "?" and "#": the query stays (got %q)`, path)
	}
	var err error
	if f.before, err = template.Parse(before); err != nil {
		return nil, err
	}
	if f.after, err = template.Parse(after); err != nil {
		return nil, err
	}
	return f, f.checkLiterals(path)
}

// checkLiterals reports a path whose fixed parts are not canonical. Each variable, and the star,
// counts as a letter.
func (f *Rewrite) checkLiterals(path string) error {
	var sample []byte
	for i, t := range []*template.Template{&f.before, &f.after} {
		if i == 1 && f.star {
			sample = append(sample, 'x')
		}
		for _, p := range t.Parts() {
			if p.Kind == template.Literal {
				sample = append(sample, p.Text...)
			} else {
				sample = append(sample, 'x')
			}
		}
	}
	var scratch []byte
	canonical, flags, err := target.Path(sample, &scratch)
	switch {
	case err != nil:
		return fmt.Errorf("is not a valid path: %s (got %q)", strings.TrimPrefix(err.Error(), "path: "), path)
	case !bytes.Equal(canonical, sample):
		return fmt.Errorf("is not in the form in which paths are forwarded: no dot segments, no slashes in a row, "+
			"no escapes of plain letters (got %q)", path)
	case flags&target.EncodedSlash != 0 && !f.options.KeepEncodedSlash:
		return fmt.Errorf(`contains an encoded slash; the route must have encoded_slash = "keep" (got %q)`, path)
	}
	return nil
}

// Name implements Filter.
func (*Rewrite) Name() string { return "rewrite" }

// Captures is the highest number of a group of path_regex that the path uses.
func (f *Rewrite) Captures() int { return max(f.before.Captures(), f.after.Captures()) }

// FilterRequest implements RequestFilter.
func (f *Rewrite) FilterRequest(r *Request) (done bool) {
	if len(r.Path) == 0 || r.Path[0] != '/' { // OPTIONS *
		return false
	}
	from, to := f.matched(r)
	begin := len(r.Scratch)
	r.Scratch = r.AppendURL(r.Scratch, &f.before)
	at := len(target.MergeSlashes(r.Scratch[begin:]))
	r.Scratch = r.Scratch[:begin+at]
	if f.star {
		r.Scratch = append(r.Scratch, r.Path[from:max(from, to)]...)
		r.Scratch = r.AppendURL(r.Scratch, &f.after)
	}
	built := r.Scratch[begin:len(r.Scratch):len(r.Scratch)]
	path, flags, ok := target.Joined(built, f.options.KeepSlashes, &r.Scratch)
	switch {
	case !ok:
		return r.End(Answer{Status: 400, End: telemetry.EndBadRequest, Text: "the path is not valid once it is rewritten"})
	case flags&target.EncodedSlash != 0 && !f.options.KeepEncodedSlash:
		return r.End(Answer{Status: 400, End: telemetry.EndBadRequest, Text: "the path contains an encoded slash once it is rewritten"})
	}
	if f.star && to == len(r.Path) && len(f.after.Parts()) == 0 {
		r.replaced = prefixes{client: r.Path[:from], server: path[:min(at, len(path))]}
	}
	r.Path = path
	r.EncodedSlash = flags&target.EncodedSlash != 0
	return false
}

// matched returns the part Path[from:to] of a request that the star stands for.
func (f *Rewrite) matched(r *Request) (from, to int) {
	if !f.star || r.Match == nil {
		return len(r.Path), len(r.Path)
	}
	from, to = r.Match.Star()
	path := r.Match.Path()
	return target.OffsetOf(r.Path, path, from), target.OffsetOf(r.Path, path, to)
}

// FilterResponse implements ResponseFilter.
func (f *Rewrite) FilterResponse(r *Request, resp *message.Response) {
	if !r.FromServer || r.replaced.server == nil {
		return
	}
	h := &resp.Header
	for i, n := 0, h.Len(); i < n; i++ { // what is added stands behind
		id, name, value, ok := h.At(i)
		if !ok {
			continue
		}
		r.scratch = r.scratch[:0]
		var changed bool
		switch {
		case id == message.Location, id == message.Other && message.EqualFold(name, "Content-Location"):
			r.scratch, changed = r.appendLocation(r.scratch, value)
		case id == message.SetCookie:
			r.scratch, changed = r.replaced.appendCookie(r.scratch, value)
		}
		if changed {
			h.DelAt(i)
			h.AddName(name, r.scratch)
		}
	}
}
