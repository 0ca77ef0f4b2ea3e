package paths

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Whatever stands in a journal, what is believed of it is whole, and of this boot and namespace.
func FuzzJournal(f *testing.F) {
	self, err := currentOwner()
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []journalFile{{journalOwner: self}, {journalOwner: self, Made: Handover{LastID: 3, Endpoints: []EndpointRecord{{Path: "a"}}}}} {
		text, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	file := filepath.Join(f.TempDir(), "journal")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j := journal{path: file, self: self}
		e, err := j.read()
		if err != nil {
			return
		}
		for _, h := range e.Endpoints {
			if x := h.endpoint(); !x.Addr.IsValid() || x.ID == 0 || h.Path == "" {
				t.Errorf("%+v", h)
			}
		}
		if len(e.Endpoints) > 2*maxEndpoints {
			t.Errorf("%d endpoints", len(e.Endpoints))
		}
	})
}
