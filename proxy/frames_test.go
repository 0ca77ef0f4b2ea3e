package proxy

import "testing"

// The ends of frames are found however the bytes are split.
func TestFramesFindTheirEnds(t *testing.T) {
	long := append([]byte{0x82, 126, 0x01, 0x00}, make([]byte, 256)...)
	huge := append([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 1<<16)...)
	list := [][]byte{{0x81, 0}, {0x81, 2, 'h', 'i'}, {0x81, 0x82, 1, 2, 3, 4, 'h', 'i'}, long,
		{0x89, 0x80, 1, 2, 3, 4}, huge, {0x88, 2, 3, 0xe8}}
	var all []byte
	ends := map[int]bool{0: true}
	for _, f := range list {
		all = append(all, f...)
		ends[len(all)] = true
	}
	for _, size := range []int{1, 2, 3, 7, 1000, len(all)} {
		var f frames
		for at := 0; at < len(all); {
			n := f.skip(all[at:min(at+size, len(all))], false)
			if n != min(size, len(all)-at) {
				t.Fatalf("at %d: took %d of %d", at, n, size)
			}
			if at += n; f.between() != ends[at] {
				t.Fatalf("in pieces of %d: at %d between frames: %v", size, at, f.between())
			}
			if f.closed != (at >= len(all)-2) {
				t.Fatalf("in pieces of %d: at %d closed: %v", size, at, f.closed)
			}
		}
	}
	// Which is where the fourth frame ends, counted from the third.
	for begin := 1; begin < len(long)+8; begin++ {
		var f frames
		in := all[6 : 6+8+len(long)+4]
		f.skip(in[:begin], false)
		n := f.skip(in[begin:], true)
		wanted := 8
		if begin > 8 {
			wanted += len(long)
		}
		if end := begin + n; !f.between() || end != wanted {
			t.Fatalf("from %d on it stopped at %d", begin, end)
		}
	}
}
