package filter

import (
	"fmt"
	"slices"
	"strings"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// ErrorPages replaces the bodies of error responses: those of the gateway itself and, for pages
// that say so, those of servers. Clients that prefer JSON get the gateway's own error in JSON.
type ErrorPages struct {
	own, servers map[int]*ErrorPage // by status
}

// ErrorPage is the page for some statuses.
type ErrorPage struct {
	First, Last int // of the statuses, from 400 to 599
	Body        []byte
	Type        string // of Body
	Servers     bool   // also in place of servers' responses
}

// NewErrorPages makes an ErrorPages. Of two pages for a status the one for fewer statuses is used.
func NewErrorPages(pages []ErrorPage) (*ErrorPages, error) {
	f := &ErrorPages{own: map[int]*ErrorPage{}, servers: map[int]*ErrorPage{}}
	pages = slices.Clone(pages)
	slices.SortStableFunc(pages, func(a, b ErrorPage) int { return (b.Last - b.First) - (a.Last - a.First) })
	for i := range pages {
		p := &pages[i]
		if p.First < 400 || p.Last > 599 || p.First > p.Last {
			return nil, fmt.Errorf("has a page for the status %d to %d; pages are for errors, from 400 to 599", p.First, p.Last)
		}
		for status := p.First; status <= p.Last; status++ {
			f.own[status] = p
			delete(f.servers, status)
			if p.Servers {
				f.servers[status] = p
			}
		}
	}
	return f, nil
}

// Name implements Filter.
func (*ErrorPages) Name() string { return "error_pages" }

// FilterReplace implements ReplaceFilter.
func (f *ErrorPages) FilterReplace(r *Request, status int, own bool) (replaced bool) {
	pages := f.servers
	if own {
		pages = f.own
	}
	p := pages[status]
	// an answer of the gateway that has its own body, or must have none
	if p == nil || own && (r.Answer.Type != "" || r.Answer.Bare) {
		return false
	}
	mediaType, _, _ := strings.Cut(p.Type, ";")
	json := Prefers(&r.Header, "application/json", strings.TrimSpace(mediaType))
	if own {
		if !json {
			r.Answer.Body, r.Answer.Type = p.Body, p.Type
		}
		return !json
	}
	r.Answer = Answer{Status: status, End: telemetry.EndOK, Text: strings.ToLower(message.StatusText(status))}
	if !json {
		r.Answer.Body, r.Answer.Type = p.Body, p.Type
	}
	return true
}
