package filter_test

import (
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

func TestPrefers(t *testing.T) {
	for _, tt := range []struct {
		accept string // "" is none
		want   bool   // JSON rather than HTML
	}{
		{"", false},
		{"*/*", false},
		{"application/json", true},
		{"Application/JSON; charset=utf-8", true},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"application/json, text/plain, */*", false}, // equal: JSON 1, HTML 1 by */*
		{"application/json, */*;q=0.5", true},
		{"application/json;q=0.5, text/html;q=0.4", true},
		{"application/json;q=0.4, text/html;q=0.5", false},
		{"application/*, text/*;q=0.5", true},
		{"application/json;q=0, */*", false},
		{"text/html;q=0, */*;q=0.1", true},
		{"text/html;q=2, application/json;q=0.001", true}, // an invalid weight
		{"text/html;level=1, application/json;q=0.5", true},
		{`text/html;x="a,application/json;q=1"`, false},
		{"application/vnd.api+json", false},
		{"application/jsonx", false},
		{", ,;q=1,application/json", true},
	} {
		var h message.Header
		if tt.accept != "" {
			header(&h, "Accept: "+tt.accept)
		}
		if got := filter.Prefers(&h, "application/json", "text/html"); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.accept, got, tt.want)
		}
	}
	var h message.Header
	header(&h, "Accept: text/html;q=0.5", "Accept: application/json")
	if !filter.Prefers(&h, "application/json", "text/html") {
		t.Error("the second field does not count")
	}
}

func FuzzPrefers(f *testing.F) {
	f.Add("text/html;q=0.5, application/json")
	f.Add(`a/b;x="\",";q=1`)
	f.Fuzz(func(t *testing.T, accept string) {
		var h message.Header
		h.AddString(message.Accept, accept)
		if filter.Prefers(&h, "application/json", "text/html") && filter.Prefers(&h, "text/html", "application/json") {
			t.Errorf("%q prefers both", accept)
		}
	})
}

func TestErrorPages(t *testing.T) {
	f, err := filter.NewErrorPages([]filter.ErrorPage{
		{First: 503, Last: 503, Body: []byte("busy"), Type: "text/plain"},
		{First: 502, Last: 504, Body: []byte("down"), Type: "text/html; charset=utf-8", Servers: true},
		{First: 404, Last: 404, Body: []byte(`{}`), Type: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status   int
		own      bool
		accept   string
		replaced bool
		body     string
	}{
		{502, true, "text/html", true, "down"},
		{503, true, "*/*", true, "busy"}, // the page for fewer statuses
		{404, true, "application/json", true, "{}"},
		{502, true, "application/json", false, ""},
		{502, false, "text/html", true, "down"},
		{502, false, "application/json", true, ""}, // the gateway's own error in JSON
		{503, false, "text/html", false, ""},
		{404, false, "text/html", false, ""},
		{500, true, "text/html", false, ""},
		{200, true, "text/html", false, ""},
	} {
		r := requestFor("/")
		header(&r.Header, "Accept: "+tt.accept)
		if tt.own {
			r.Answer = filter.Answer{Status: tt.status, End: telemetry.EndBackendConnect, Text: "why"}
		}
		replaced := f.FilterReplace(r, tt.status, tt.own)
		if replaced != tt.replaced || string(r.Answer.Body) != tt.body || replaced && r.Answer.Status != tt.status {
			t.Errorf("%+v: %v, %+v", tt, replaced, r.Answer)
		}
		if want := telemetry.EndBackendConnect; tt.own && (r.Answer.End != want || r.Answer.Text != "why") {
			t.Errorf("%+v: the end is lost: %+v", tt, r.Answer)
		}
		if !tt.own && replaced && r.Answer.End != telemetry.EndOK {
			t.Errorf("%+v: %+v", tt, r.Answer)
		}
	}
	for _, a := range []filter.Answer{{Status: 502, Body: []byte("x"), Type: "text/plain"}, {Status: 502, Bare: true}} {
		r := requestFor("/")
		r.Answer = a
		if f.FilterReplace(r, 502, true) {
			t.Errorf("an answer that has a body of its own, or must have none, is replaced: %+v", a)
		}
	}
	for _, p := range []filter.ErrorPage{{First: 200, Last: 404}, {First: 399, Last: 399}, {First: 500, Last: 600}, {First: 504, Last: 502}} {
		if _, err := filter.NewErrorPages([]filter.ErrorPage{p}); err == nil || !strings.Contains(err.Error(), "from 400 to 599") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
