package certs

import (
	"io"
	"net/http/httptest"
	"testing"

	"github.com/mholt/acmez/v3/acme"
)

// Handlers of challenges answer nobody who is not to be answered.
func TestChallengeResponse(t *testing.T) {
	m, _ := newManager(t, nil)
	open(t, m, Options{Policy: Policy{ACME: &ACME{Domains: []string{"a.example"}, CA: "https://127.0.0.1:1/dir"}}})
	is := m.issuersOf("a.example", HTTP01)[0]
	solver := is.solvers()[HTTP01]
	c := acme.Challenge{Type: acme.ChallengeTypeHTTP01, Token: "tok-EN_1", KeyAuthorization: "auth", Identifier: acme.Identifier{Type: "dns", Value: "a.example"}}
	if err := solver.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ask := func(host, path string) string {
		body, ok := m.ChallengeResponse(t.Context(), host, path)
		if ok != (body != "") {
			t.Errorf("%s%s: %q, %v", host, path, body, ok)
		}
		return body
	}
	for at, want := range map[[2]string]string{
		{"a.example", challengePath + "tok-EN_1"}:       "auth",
		{"A.EXAMPLE.:8080", challengePath + "tok-EN_1"}: "auth",
		{"b.example", challengePath + "tok-EN_1"}:       "",
		{"a.example", challengePath + "tok"}:            "",
		{"a.example", challengePath}:                    "",
		{"a.example", challengePath + "../../../x"}:     "",
		{"a.example", "/tok-EN_1"}:                      "",
		{"", challengePath + "tok-EN_1"}:                "",
	} {
		if got := ask(at[0], at[1]); got != want {
			t.Errorf("%s%s: got %q, want %q", at[0], at[1], got, want)
		}
	}
	rec := httptest.NewRecorder()
	m.ACMEHandler().ServeHTTP(rec, httptest.NewRequest("GET", "http://a.example"+challengePath+"tok-EN_1", nil))
	if body, _ := io.ReadAll(rec.Body); rec.Code != 200 || string(body) != "auth" || rec.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("got %d %q", rec.Code, body)
	}
	rec = httptest.NewRecorder()
	m.ACMEHandler().ServeHTTP(rec, httptest.NewRequest("POST", "http://a.example"+challengePath+"tok-EN_1", nil))
	if rec.Code != 404 {
		t.Errorf("a POST gets %d", rec.Code)
	}
	if err := solver.CleanUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if ask("a.example", challengePath+"tok-EN_1") != "" {
		t.Error("the challenge is answered after its end")
	}
	for path, want := range map[string]bool{challengePath + "x": true, challengePath: false, "/.well-known/acme": false, "": false, "/x": false} {
		if IsACMEChallenge([]byte(path)) != want {
			t.Errorf("IsACMEChallenge(%q) = %v", path, !want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { IsACMEChallenge([]byte(challengePath)) }); n != 0 {
		t.Errorf("IsACMEChallenge allocates %v times", n)
	}
}
