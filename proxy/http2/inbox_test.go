package http2

import (
	"bytes"
	"testing"
)

// The memory of an inbox is in proportion to what it holds, however that came.
func TestInboxMemoryIsInProportion(t *testing.T) {
	for _, piece := range []int{1, 1000, 4 << 10, 5 << 10, 16 << 10, 64 << 10} {
		var in inbox
		var sent, got bytes.Buffer
		for held := 0; held < 256<<10; {
			p := bytes.Repeat([]byte{byte(held)}, piece)
			in.add(p)
			sent.Write(p)
			held += piece
			size := 0
			for _, b := range in.blocks {
				size += len(b.data)
			}
			if most := 5*held + smallBlock; size > most {
				t.Fatalf("%d bytes in pieces of %d take %d, want %d at most", held, piece, size, most)
			}
		}
		for p := in.next(); p != nil; p = in.next() {
			got.Write(p)
		}
		if !bytes.Equal(sent.Bytes(), got.Bytes()) {
			t.Errorf("what came in pieces of %d is not what was taken", piece)
		}
		in.drop()
	}
}
