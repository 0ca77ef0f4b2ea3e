package auth

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

// argon2id computes the tag of RFC 9106 in one goroutine, however many lanes there are. The package
// golang.org/x/crypto/argon2 uses a thread for each lane, and is faster, so this is only for more
// lanes than there are processors for.
func argon2id(password, salt []byte, passes, memory, lanes, length uint32) []byte {
	a := argon2idState{passes: passes, lanes: lanes, columns: memory / (4 * lanes) * 4}
	a.blocks = make([]argonBlock, a.columns*lanes)
	a.first(password, salt, memory, length)
	for a.pass = range passes {
		for a.slice = range uint32(4) {
			for a.lane = range lanes {
				a.segment()
			}
		}
	}
	last := a.blocks[a.columns-1]
	for i := uint32(1); i < lanes; i++ {
		xorBlock(&last, &a.blocks[(i+1)*a.columns-1])
	}
	return argonHash(last.bytes(), length)
}

// argonBlock is 1 KiB.
type argonBlock [128]uint64

// argon2idState is a matrix of blocks, a lane in each row. A slice is a quarter of the columns, and
// a segment what a lane and a slice have in common.
type argon2idState struct {
	passes, lanes, columns uint32
	blocks                 []argonBlock
	pass, slice, lane      uint32 // at present
}

// first fills the first two columns (section 3.2, steps 1 to 4).
func (a *argon2idState) first(password, salt []byte, memory, length uint32) {
	const version, kind = 0x13, 2
	var in []byte
	for _, n := range []uint32{a.lanes, length, memory, a.passes, version, kind} {
		in = binary.LittleEndian.AppendUint32(in, n)
	}
	for _, text := range [][]byte{password, salt, nil, nil} { // no secret, no associated data
		in = append(binary.LittleEndian.AppendUint32(in, uint32(len(text))), text...)
	}
	h := blake2b.Sum512(in)
	for lane := range a.lanes {
		for column := range uint32(2) {
			seed := binary.LittleEndian.AppendUint32(h[:len(h):len(h)], column)
			seed = binary.LittleEndian.AppendUint32(seed, lane)
			a.blocks[lane*a.columns+column].set(argonHash(seed, 1024))
		}
	}
}

// segment fills a segment. In the first half of the first pass it does not depend on the password
// which blocks are used (section 3.4.1.3).
func (a *argon2idState) segment() {
	n := a.columns / 4
	independent := a.pass == 0 && a.slice < 2
	var in, addresses argonBlock
	in = argonBlock{uint64(a.pass), uint64(a.lane), uint64(a.slice), uint64(len(a.blocks)), uint64(a.passes), 2}
	next := func() {
		in[6]++
		var zero argonBlock
		addresses = argonBlock{}
		compress(&addresses, &zero, &in)
		in2 := addresses
		addresses = argonBlock{}
		compress(&addresses, &zero, &in2)
	}
	i := uint32(0)
	if a.pass == 0 && a.slice == 0 {
		i = 2 // first has filled these
		next()
	}
	row := a.blocks[a.lane*a.columns : (a.lane+1)*a.columns]
	for ; i < n; i++ {
		column := a.slice*n + i
		before := &row[(column+a.columns-1)%a.columns]
		j := before[0]
		if independent {
			if i%128 == 0 {
				next()
			}
			j = addresses[i%128]
		}
		compress(&row[column], before, a.reference(i, j))
	}
}

// reference maps 64 bits to a block (section 3.4.2).
func (a *argon2idState) reference(i uint32, j uint64) *argonBlock {
	n := a.columns / 4
	lane := uint32(j>>32) % a.lanes
	if a.pass == 0 && a.slice == 0 {
		lane = a.lane
	}
	window, start := a.columns-n, (a.slice+1)%4*n
	if a.pass == 0 {
		window, start = a.slice*n, 0
	}
	switch {
	case lane == a.lane:
		window += i - 1
	case i == 0:
		window--
	}
	x := j & 0xffffffff
	x = x * x >> 32
	y := uint64(window) * x >> 32
	return &a.blocks[lane*a.columns+(start+window-1-uint32(y))%a.columns]
}

// compress adds G(x, y) to dst (section 3.5): in the first pass that is zero.
func compress(dst, x, y *argonBlock) {
	r := *x
	xorBlock(&r, y)
	z := r
	for i := 0; i < 128; i += 16 {
		permute(&z, i, 2)
	}
	for i := 0; i < 16; i += 2 {
		permute(&z, i, 16)
	}
	for i := range dst {
		dst[i] ^= r[i] ^ z[i]
	}
}

// permute is P of section 3.6 on eight pairs of words: from at, so far apart.
func permute(b *argonBlock, at, apart int) {
	var v [16]uint64
	for i := range 8 {
		v[2*i], v[2*i+1] = b[at+i*apart], b[at+i*apart+1]
	}
	for i := range 4 {
		mix(&v[i], &v[4+i], &v[8+i], &v[12+i])
	}
	mix(&v[0], &v[5], &v[10], &v[15])
	mix(&v[1], &v[6], &v[11], &v[12])
	mix(&v[2], &v[7], &v[8], &v[13])
	mix(&v[3], &v[4], &v[9], &v[14])
	for i := range 8 {
		b[at+i*apart], b[at+i*apart+1] = v[2*i], v[2*i+1]
	}
}

// mix is GB of section 3.6.
func mix(a, b, c, d *uint64) {
	add := func(x, y uint64) uint64 { return x + y + 2*uint64(uint32(x))*uint64(uint32(y)) }
	*a = add(*a, *b)
	*d = bits.RotateLeft64(*d^*a, -32)
	*c = add(*c, *d)
	*b = bits.RotateLeft64(*b^*c, -24)
	*a = add(*a, *b)
	*d = bits.RotateLeft64(*d^*a, -16)
	*c = add(*c, *d)
	*b = bits.RotateLeft64(*b^*c, -63)
}

// argonHash is H' of section 3.3.
func argonHash(in []byte, length uint32) []byte {
	in = append(binary.LittleEndian.AppendUint32(nil, length), in...)
	out := make([]byte, 0, length)
	for left := length; ; left -= 32 {
		n := min(left, 64)
		h, _ := blake2b.New(int(n), nil) // fails only for other sizes
		h.Write(in)
		in = h.Sum(nil)
		if left <= 64 {
			return append(out, in...)
		}
		out = append(out, in[:32]...)
	}
}

func (b *argonBlock) set(from []byte) {
	for i := range b {
		b[i] = binary.LittleEndian.Uint64(from[8*i:])
	}
}

func (b *argonBlock) bytes() (out []byte) {
	for _, n := range b {
		out = binary.LittleEndian.AppendUint64(out, n)
	}
	return out
}

func xorBlock(dst, x *argonBlock) {
	for i := range dst {
		dst[i] ^= x[i]
	}
}
