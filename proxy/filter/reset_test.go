package filter

import (
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Reset leaves nothing of an exchange to the next one, whatever fields are added later.
func TestResetLeavesNothing(t *testing.T) {
	stays := []string{"Request", "Record"} // belong to the exchange, which resets them
	r := &Request{Request: new(message.Request), Record: new(telemetry.Record)}
	v := reflect.ValueOf(r).Elem()
	dirty(v)
	r.Match, r.Context, r.Conn, r.Client, r.Explain = struct{ Match }{}, t.Context(), struct{ Conn }{}, struct{ Watcher }{}, func(string) {}
	r.Fields.AddName([]byte("X-A"), []byte("b"))
	r.Reset()
	for i := range v.NumField() {
		switch f, name := v.Field(i), v.Type().Field(i).Name; {
		case slices.Contains(stays, name):
		case name == "Fields":
			if r.Fields.Len() != 0 {
				t.Error("Fields has a field")
			}
		case f.Kind() == reflect.Slice:
			if f.Len() != 0 {
				t.Errorf("%s has %d elements", name, f.Len())
			}
		case !f.IsZero():
			t.Errorf("%s is %v", name, f)
		}
	}
}

// dirty gives every number, boolean and slice of a struct a value.
func dirty(v reflect.Value) {
	for i := range v.NumField() {
		f := reflect.NewAt(v.Field(i).Type(), unsafe.Pointer(v.Field(i).UnsafeAddr())).Elem()
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int:
			f.SetInt(1)
		case reflect.Uint8:
			f.SetUint(1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Struct:
			if f.Type() != reflect.TypeFor[message.Header]() {
				dirty(f)
			}
		}
	}
}
