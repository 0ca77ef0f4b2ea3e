package config

import (
	"errors"
	"mime"
	"slices"
	"strings"

	"mpgate/proxy/filter"
	"mpgate/proxy/template"
)

// templates are values with variables.
var templates = of(func(s, _ string) (template.Template, string) {
	t, err := template.Parse(s)
	return t, templateProblem(err)
}, func(t template.Template) string { return t.String() })

// locations are the targets of redirects.
var locations = of(func(s, _ string) (filter.Location, string) {
	l, err := filter.NewLocation(s)
	return l, templateProblem(err)
}, func(l filter.Location) string { return l.String() })

// templateProblem is the problem of a value with variables; it names the variable that is meant.
func templateProblem(err error) string {
	var unknown *template.UnknownError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &unknown):
		if near := nearest(unknown.Name, template.Names()); near != "" {
			return "has the unknown variable {" + unknown.Name + "}; did you mean {" + near + "}?"
		}
	}
	return err.Error()
}

// rewritten is a path that replaces another. What depends on other keys of the route is checked in
// checkFilters.
func rewritten(s, _ string) (string, string) {
	_, err := filter.NewRewrite(s, filter.RewriteOptions{KeepEncodedSlash: true})
	return s, templateProblem(err)
}

func corsOrigin(s, _ string) (string, string) {
	if s == "*" {
		return s, ""
	}
	canonical, err := filter.ParseOrigin(s)
	if err != nil {
		return "", err.Error()
	}
	return canonical, ""
}

// methodOrAny is a method, or "*" for all.
func methodOrAny(s, _ string) (string, string) {
	if _, problem := fieldName(s, ""); problem != "" || s == "" || s != "*" && strings.ToUpper(s) != s {
		return "", `is not a valid method; must be for example "GET", in upper case, or "*" for all`
	}
	return s, ""
}

// framing are the fields that belong to the connection or say where a message ends.
var framing = []string{
	"connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// editedField returns a codec of the names of fields to set, or to add if a + stands before it.
func editedField(refused ...string) codec {
	return folded(of(func(s, _ string) (string, string) {
		name, _ := strings.CutPrefix(s, "+")
		if _, problem := fieldName(name, ""); problem != "" || name == "" {
			return "", `is not a valid header field name; must be for example "X-Frame-Options", or "+Vary" to add a field`
		}
		switch lower := strings.ToLower(s); {
		case slices.Contains(framing, strings.TrimPrefix(lower, "+")):
			return "", "is a field that belongs to the connection or the length of the message, which mpgate writes itself; leave it out"
		case slices.Contains(refused, lower):
			return "", "cannot be edited here: a request has exactly one Host, and a response none; set Host in request_headers"
		}
		return s, ""
	}, same))
}

// mediaType is the value of a Content-Type field.
func mediaType(s, _ string) (string, string) {
	t, _, err := mime.ParseMediaType(s)
	if err != nil || !strings.Contains(t, "/") {
		return "", `is not a media type; must be for example "text/html; charset=utf-8"`
	}
	return s, ""
}
