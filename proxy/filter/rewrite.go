package filter

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Rewrite replaces the path of requests. Paths in the responses of servers are translated back:
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
// variables can stand in it. The error has the form "what is wrong; what would be right".
func NewRewrite(path string, o RewriteOptions) (*Rewrite, error) {
	f := &Rewrite{options: o}
	before, after, star := strings.Cut(path, "*")
	f.star = star
	switch {
	case !strings.HasPrefix(path, "/"):
		return nil, errors.New(`does not begin with /; must be for example "/*" or "/v1/*"`)
	case strings.Contains(after, "*"):
		return nil, errors.New("has more than one *; it is what the last * of match.path matched")
	case strings.ContainsAny(path, "?#"):
		return nil, errors.New(`has a "?" or a "#"; must be a path: the query stays as it is`)
	}
	var err error
	if f.before, err = template.Parse(before); err != nil {
		return nil, err
	}
	if f.after, err = template.Parse(after); err != nil {
		return nil, err
	}
	return f, f.checkLiterals()
}

// checkLiterals reports a path whose fixed parts are not canonical. Each variable, and the star,
// counts as a letter.
func (f *Rewrite) checkLiterals() error {
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
		return fmt.Errorf("is not a valid path; %s", strings.TrimPrefix(err.Error(), "path: "))
	case !bytes.Equal(canonical, sample):
		return errors.New("is not in the form in which paths are forwarded; must have no dot segments, no slashes in a row " +
			"and no escapes of plain letters")
	case flags&target.EncodedSlash != 0 && !f.options.KeepEncodedSlash:
		return errors.New(`has an encoded slash; the route must have encoded_slash = "keep"`)
	}
	return nil
}

// Name implements Filter.
func (*Rewrite) Name() string { return "rewrite" }

// Captures is the highest number of a group of path_regex that the path uses.
func (f *Rewrite) Captures() int { return max(f.before.Captures(), f.after.Captures()) }

// Uses reports whether the path uses a variable.
func (f *Rewrite) Uses(k template.Kind) bool { return f.before.Uses(k) || f.after.Uses(k) }

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
	if f.star && to == len(r.Path) && len(f.after.Parts()) == 0 && !r.Internal {
		// No client could ask for an internal path.
		r.replaced = prefixes{client: r.Path[:from], server: path[:min(at, len(path))]}
	}
	if r.Explain != nil {
		r.Explain(fmt.Sprintf("rewrite: the path becomes %s", path))
	}
	r.AddedSlash = f.star && from == to && path[len(path)-1] == '/' && r.Path[len(r.Path)-1] != '/'
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
	if !r.FromServer && !r.Internal || r.replaced.server == nil {
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
			if r.Internal { // it does not say a path of the server that was asked first
				continue
			}
			r.scratch, changed = r.appendLocation(r.scratch, value)
		case id == message.SetCookie && !bytes.Equal(value, r.OwnCookie): // ours is for all routes
			r.scratch, changed = r.replaced.appendCookie(r.scratch, value)
		}
		if changed {
			h.DelAt(i)
			h.AddName(name, r.scratch)
		}
	}
}
