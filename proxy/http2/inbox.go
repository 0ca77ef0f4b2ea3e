package http2

import "sync"

const (
	smallBlock  = 4 << 10
	middleBlock = 16 << 10
	largeBlock  = 64 << 10
)

var smallBlocks = sync.Pool{New: func() any { return new([smallBlock]byte) }}
var middleBlocks = sync.Pool{New: func() any { return new([middleBlock]byte) }}
var largeBlocks = sync.Pool{New: func() any { return new([largeBlock]byte) }}

// inbox holds the data of a stream that has come and was not taken yet, in blocks from a pool. The
// more it holds, the larger its blocks are, so that the memory is in proportion. It holds no more
// than the stream's window. The zero value is ready.
type inbox struct {
	blocks []block
	first  int // of blocks
	size   int // bytes held, without lent
	lent   int // bytes of the piece that next returned last, which is in the first block
}

type block struct {
	data []byte
	r, w int
}

// add copies p in.
func (in *inbox) add(p []byte) {
	in.size += len(p)
	for len(p) > 0 {
		b := in.room(len(p))
		n := copy(b.data[b.w:], p)
		b.w += n
		p = p[n:]
	}
}

// room gives a last block that is not full.
func (in *inbox) room(n int) *block {
	size := smallBlock
	if n > smallBlock {
		size = middleBlock
	}
	if k := len(in.blocks); k > in.first {
		b := &in.blocks[k-1]
		if b.w < len(b.data) {
			return b
		}
		size = min(4*len(b.data), largeBlock) // a stream that filled a block continues
	}
	data := newBlock(size)
	if in.first > 16 && in.first > len(in.blocks)/2 { // a stream that is never empty
		n := copy(in.blocks, in.blocks[in.first:])
		in.blocks, in.first = in.blocks[:n], 0
	}
	in.blocks = append(in.blocks, block{data: data})
	return &in.blocks[len(in.blocks)-1]
}

// next returns the contiguous bytes at the front, nil for none. They are valid until the next call.
func (in *inbox) next() []byte {
	in.lent = 0
	for in.first < len(in.blocks) {
		b := &in.blocks[in.first]
		if b.r < b.w {
			p := b.data[b.r:b.w:b.w]
			b.r = b.w
			in.lent = len(p)
			in.size -= len(p)
			return p
		}
		b.free()
		in.first++
	}
	in.blocks, in.first = in.blocks[:0], 0
	return nil
}

// drop empties the inbox.
func (in *inbox) drop() {
	for i := in.first; i < len(in.blocks); i++ {
		in.blocks[i].free()
	}
	in.blocks, in.first, in.size, in.lent = in.blocks[:0], 0, 0, 0
}

func newBlock(size int) []byte {
	switch size {
	case smallBlock:
		return smallBlocks.Get().(*[smallBlock]byte)[:]
	case middleBlock:
		return middleBlocks.Get().(*[middleBlock]byte)[:]
	}
	return largeBlocks.Get().(*[largeBlock]byte)[:]
}

func (b *block) free() {
	switch len(b.data) {
	case smallBlock:
		smallBlocks.Put((*[smallBlock]byte)(b.data))
	case middleBlock:
		middleBlocks.Put((*[middleBlock]byte)(b.data))
	case largeBlock:
		largeBlocks.Put((*[largeBlock]byte)(b.data))
	}
	b.data = nil
}
