package migrate

import (
	"slices"

	"mpgate/internal/nginxconf"
)

// scope is a block with those around it. nginx takes most directives from the innermost block that
// has any of that name.
type scope struct {
	outer *scope
	list  []*nginxconf.Directive
}

func (s *scope) inner(d *nginxconf.Directive) *scope { return &scope{outer: s, list: d.Block} }

// here returns the directives of a block itself.
func (s *scope) here(names ...string) (found []*nginxconf.Directive) {
	for _, d := range s.list {
		if slices.Contains(names, d.Name) {
			found = append(found, d)
		}
	}
	return found
}

// first returns the first of them, nil if there is none.
func (s *scope) first(names ...string) *nginxconf.Directive {
	if found := s.here(names...); len(found) > 0 {
		return found[0]
	}
	return nil
}

// inherited returns the directives of the innermost block that has any.
func (s *scope) inherited(names ...string) []*nginxconf.Directive {
	for ; s != nil; s = s.outer {
		if found := s.here(names...); len(found) > 0 {
			return found
		}
	}
	return nil
}

// one returns the last of those, nil if there is none.
func (s *scope) one(name string) *nginxconf.Directive {
	found := s.inherited(name)
	if len(found) == 0 {
		return nil
	}
	return found[len(found)-1]
}

// on reports whether a flag is set.
func (s *scope) on(name string) bool {
	d := s.one(name)
	return d != nil && d.Arg(0) == "on"
}

// arg returns the first argument of a directive, "" if there is none.
func (s *scope) arg(name string) string {
	if d := s.one(name); d != nil {
		return d.Arg(0)
	}
	return ""
}

// variable returns the directive set of a variable, nil if there is none.
func (s *scope) variable(name string) *nginxconf.Directive {
	for ; s != nil; s = s.outer {
		for _, d := range s.here("set") {
			if d.Arg(0) == "$"+name {
				return d
			}
		}
	}
	return nil
}
