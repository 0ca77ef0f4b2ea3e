package config

import (
	"errors"

	"mpgate/proxy/template"
)

// templates are values with variables.
var templates = of(func(s, _ string) (template.Template, string) {
	t, err := template.Parse(s)
	return t, templateProblem(err)
}, func(t template.Template) string { return t.String() })

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
