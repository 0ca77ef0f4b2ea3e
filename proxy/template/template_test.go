package template_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"mpgate/proxy/template"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in   string
		want []template.Part
	}{
		{"", nil},
		{"plain", []template.Part{{Kind: template.Literal, Text: "plain"}}},
		{"https://{host}{uri}", []template.Part{
			{Kind: template.Literal, Text: "https://"}, {Kind: template.Host}, {Kind: template.URI},
		}},
		{"{{a} {header.X-Name}{cookie.id}{query.a b}", []template.Part{
			{Kind: template.Literal, Text: "{a} "}, {Kind: template.Header, Text: "X-Name"},
			{Kind: template.Cookie, Text: "id"}, {Kind: template.Param, Text: "a b"},
		}},
		{"/v{1}/{9}", []template.Part{
			{Kind: template.Literal, Text: "/v"}, {Kind: template.Capture, Number: 1},
			{Kind: template.Literal, Text: "/"}, {Kind: template.Capture, Number: 9},
		}},
		{"a}b", []template.Part{{Kind: template.Literal, Text: "a}b"}}},
	}
	for _, tt := range tests {
		got, err := template.Parse(tt.in)
		if err != nil || !reflect.DeepEqual(got.Parts(), tt.want) {
			t.Errorf("Parse(%q) = %v, %v, want %v", tt.in, got.Parts(), err, tt.want)
		}
		if got.String() != tt.in {
			t.Errorf("Parse(%q).String() = %q", tt.in, got.String())
		}
	}
}

func TestParseFaults(t *testing.T) {
	for in, want := range map[string]string{
		"{host":           "has a variable without a closing brace",
		"{hots}":          "unknown variable {hots}",
		"{0}":             "unknown variable {0}",
		"{10}":            "unknown variable {10}",
		"{}":              "unknown variable {}",
		"{header.}":       "invalid name in the variable {header.}",
		"{header.a b}":    "invalid name in the variable {header.a b}",
		"a\r\nSet-Cookie": "has a line break",
		"a\x00":           "has a line break or a NUL",
	} {
		if _, err := template.Parse(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %q", in, err, want)
		}
	}
	var unknown *template.UnknownError
	if _, err := template.Parse("{hots}"); !errors.As(err, &unknown) || unknown.Name != "hots" {
		t.Errorf("%v, want an UnknownError", err)
	}
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]bool{"": true, "a": true, "{{": true, "{host}": false, "a{host}": false} {
		p, err := template.Parse(in)
		if _, ok := p.Literal(); err != nil || ok != want {
			t.Errorf("Literal of %q: %v, want %v (%v)", in, ok, want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "{host}", "{{", "{header.A}", "{", "}", "{1}{{{2}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := template.Parse(s)
		if err != nil {
			return
		}
		for _, part := range p.Parts() {
			if part.Kind == template.Literal && (part.Text == "" || strings.ContainsAny(part.Text, "\r\n\x00")) {
				t.Errorf("Parse(%q) has the literal %q", s, part.Text)
			}
		}
	})
}
