package proxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// pieces is a body that comes in these.
type pieces []string

func (p *pieces) Next(bool) ([]byte, error) {
	if len(*p) == 0 {
		return nil, io.EOF
	}
	first := (*p)[0]
	*p = (*p)[1:]
	return []byte(first), nil
}

func TestKeptBody(t *testing.T) {
	large := strings.Repeat("x", maxKeptBody-5)
	var used atomic.Int64
	read := func(k *keptBody, n int) (got string) {
		for range n {
			p, err := k.Next(true)
			if err != nil {
				t.Fatal(err)
			}
			got += string(p)
		}
		return got
	}
	var k keptBody
	k.begin(&pieces{"hello", large, "!"}, &used, -1, maxKeptBody)
	read(&k, 1)
	k.rewind()
	if got := read(&k, 1); got != "hello" || k.remaining() != 0 {
		t.Errorf("got %q", got)
	}
	read(&k, 1)
	k.rewind()
	if got := read(&k, 1); got != "hello"+large || !k.canRewind() || used.Load() != maxKeptBody {
		t.Errorf("got %d bytes; %v, %d used", len(got), k.canRewind(), used.Load())
	}
	if got := read(&k, 1); got != "!" || k.canRewind() || used.Load() != 0 {
		t.Errorf("beyond the limit: %q, %v, %d used", got, k.canRewind(), used.Load())
	}
	if _, err := k.Next(true); err != io.EOF {
		t.Error(err)
	}
	k.reset()

	k.begin(&pieces{"a", "b"}, &used, 2, maxKeptBody)
	read(&k, 1)
	k.unneeded.Store(true)
	if got := read(&k, 1); got != "b" || k.canRewind() || used.Load() != 0 {
		t.Errorf("when nobody needs it: %q, %v, %d used", got, k.canRewind(), used.Load())
	}
	k.reset()

	used.Store(maxKeptBodies - smallBody)
	if k.begin(&pieces{"a"}, &used, maxKeptBody, maxKeptBody) || k.active() {
		t.Error("more is kept than there is room for")
	}
	if !k.begin(&pieces{"a", large}, &used, 1, maxKeptBody) {
		t.Fatal("there is room")
	}
	if read(&k, 1); !k.canRewind() {
		t.Error("what there is room for is not kept")
	}
	if got := read(&k, 1); got != large || k.canRewind() || used.Load() != maxKeptBodies-smallBody {
		t.Errorf("%d bytes, %v, %d used", len(got), k.canRewind(), used.Load())
	}
	k.reset()
	if used.Load() != maxKeptBodies-smallBody {
		t.Errorf("%d used in the end", used.Load())
	}
}
