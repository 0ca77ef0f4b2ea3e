package proxy

import (
	"bytes"
	"strings"
	"testing"

	"mpgate/proxy/message"
)

// A mark is found wherever it stands among those of others; what is passed on is what came.
func FuzzLoopMarks(f *testing.F) {
	mark := "0123456789abcdef01234567"
	other := "012345670000000000000000"
	f.Add("a, b; x=1", mark)
	f.Add(",, ;"+mark, other+","+other)
	f.Add(strings.Repeat(other+",", maxPasses), "")
	f.Fuzz(func(t *testing.T, one, two string) {
		var x exchange
		x.req.Header.AddName([]byte("CDN-Loop"), []byte(one))
		x.req.Header.AddName([]byte("cdn-loop"), []byte(two))
		passes, found := 0, false
		for e := range strings.SplitSeq(one+","+two, ",") {
			id, _, _ := strings.Cut(e, ";")
			if id = strings.Trim(id, " \t"); len(id) == len(mark) && strings.HasPrefix(id, mark[:processDigits]) {
				passes++
				found = found || id == mark
			}
		}
		if got := x.hasMark([]byte(mark)); got != (found || passes >= maxPasses) {
			t.Fatalf("%q, %q: %v", one, two, got)
		} else if got {
			return
		}
		var want []byte
		for i := x.req.Header.Index(message.CDNLoop, 0); i >= 0; i = x.req.Header.Index(message.CDNLoop, i+1) {
			if _, _, v, _ := x.req.Header.At(i); len(v) > 0 {
				want = append(append(want, v...), ", "...)
			}
		}
		if !bytes.Equal(x.scratch, want) {
			t.Errorf("%q, %q: kept %q", one, two, x.scratch)
		}
	})
}
