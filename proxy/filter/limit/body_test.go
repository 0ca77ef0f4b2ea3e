package limit

import (
	"errors"
	"io"
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

func TestDeclaredBody(t *testing.T) {
	l := New(Options{Body: 100})
	for _, tt := range []struct {
		length int64
		status int
	}{{0, 0}, {100, 0}, {101, 413}, {1 << 62, 413}, {message.Unknown, 0}} {
		r := request("192.0.2.1")
		r.ContentLength = tt.length
		if done := l.FilterRequest(r); done != (tt.status != 0) || r.Answer.Status != tt.status {
			t.Errorf("a body of %d bytes: done %v, status %d", tt.length, done, r.Answer.Status)
		}
		if tt.status != 0 && r.Answer.End != telemetry.EndLimited {
			t.Errorf("end %v", r.Answer.End)
		}
		l.FilterEnd(r)
	}
}

// pieces is a body.
type pieces []string

func (p *pieces) Next(bool) ([]byte, error) {
	if len(*p) == 0 {
		return nil, io.EOF
	}
	first := (*p)[0]
	*p = (*p)[1:]
	return []byte(first), nil
}

func TestBodyOfUnknownLength(t *testing.T) {
	for _, dry := range []bool{false, true} {
		for _, tt := range []struct {
			body pieces
			ok   bool
		}{
			{pieces{"12345", "67890"}, true},
			{pieces{"12345", "678901"}, false},
			{pieces{"12345678901"}, false},
			{pieces{"1234567890", "", "1"}, false},
			{nil, true},
		} {
			in := telemetry.NewInstruments("test")
			l := New(Options{Body: 10, DryRun: dry, Meter: in.Limits("api")})
			r := request("192.0.2.1")
			r.ContentLength = message.Unknown
			if l.FilterRequest(r) {
				t.Fatal("refused before the body came")
			}
			want := strings.Join(tt.body, "")
			body := l.FilterRequestBody(r, &tt.body)
			got := ""
			var err error
			for err == nil {
				var p []byte
				p, err = body.Next(true)
				got += string(p)
			}
			var refused *filter.BodyError
			switch {
			case tt.ok || dry:
				if err != io.EOF || got != want {
					t.Errorf("dry %v, %q: got %q, %v", dry, want, got, err)
				}
			case !errors.As(err, &refused) || refused.Answer.Status != 413 || len(got) > 10:
				t.Errorf("%q: got %q, %v", want, got, err)
			default:
				if _, again := body.Next(true); again != err {
					t.Errorf("then %v", again)
				}
				if r.Record.Filter != "limit" {
					t.Errorf("filter %q", r.Record.Filter)
				}
			}
			if exceeded := r.Record.DryRun != ""; exceeded != (dry && !tt.ok) {
				t.Errorf("%q: DryRun %q", want, r.Record.DryRun)
			}
			l.FilterEnd(r)
		}
	}
}

// A tunnel has no body.
func TestTunnelsHaveNoBody(t *testing.T) {
	l := New(Options{Body: 1})
	r := request("192.0.2.1")
	r.ContentLength, r.Upgrade = message.Unknown, []byte("websocket")
	src := new(pieces)
	if got := l.FilterRequestBody(r, src); got != src {
		t.Error("what follows a change of protocols is counted")
	}
}
