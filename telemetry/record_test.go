package telemetry

import (
	"encoding/hex"
	"reflect"
	"testing"
)

func TestNewID(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		id := NewID()
		if raw, err := hex.DecodeString(id.String()); err != nil || len(raw) != 16 {
			t.Fatalf("%q is not 32 hexadecimal digits: %v", id.String(), err)
		}
		if seen[id] {
			t.Fatalf("%s came twice", id)
		}
		seen[id] = true
	}
	if s := (ID{}).String(); s != "" {
		t.Errorf("no ID: got %q", s)
	}
}

func TestReset(t *testing.T) {
	r := sample()
	r.AddHeader("X-Name", false, []byte("x"))
	r.Reset()
	if len(r.headers) > 0 {
		t.Error("header fields are left")
	}
	r.headers = nil
	if want := (Record{GRPCStatus: -1}); !reflect.DeepEqual(*r, want) {
		t.Errorf("got %+v", *r)
	}
}

func TestEndNames(t *testing.T) {
	want := map[string]bool{"ok": true, "client_gone": true, "client_timeout": true, "bad_request": true, "limit": true, "no_route": true,
		"misdirected": true, "mptcp_required": true, "backend_connect": true, "backend_timeout": true, "backend_reset": true,
		"backend_invalid": true, "drain": true, "internal": true, "denied": true, "limited": true, "unauthorized": true, "backend_busy": true}
	for e := range endCount {
		if !want[e.String()] {
			t.Errorf("%q is not in the contract, or came twice", e)
		}
		delete(want, e.String())
	}
	for missing := range want {
		t.Errorf("%q is missing", missing)
	}
	if e := End(200); e.String() != "internal" {
		t.Errorf("an unknown end: got %q", e)
	}
}
