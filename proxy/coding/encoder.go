package coding

import (
	"io"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Encoders bounds the memory of the encoders in use. The zero value has no bound.
type Encoders struct {
	Limit int64 // bytes

	used  atomic.Int64
	pools sync.Map // of kind to *sync.Pool
}

// EncoderMemory is a limit that suits this process: an eighth of what the runtime keeps it below
// (debug.SetMemoryLimit), and 128 MiB at most.
func EncoderMemory() int64 {
	const least, most = 8 << 20, 128 << 20
	if all := debug.SetMemoryLimit(-1); all != math.MaxInt64 {
		return min(most, max(least, all/8))
	}
	return most
}

// MaxLevel is the slowest level; 0 is the default.
const MaxLevel = 9

// Encoder compresses to a writer, synchronously.
type Encoder struct {
	compressor
	of    *Encoders
	kind  kind
	block []byte
}

// Block is memory for what the encoder has written, until Release.
func (e *Encoder) Block() []byte { return e.block }

// blockSize is the length of a block, in bytes.
const blockSize = 16 << 10

// kind is what encoders that may stand in for each other have in common.
type kind struct {
	coding Coding
	level  int
}

// compressor is what *gzip.Writer and *zstd.Encoder have in common.
type compressor interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// Take returns an encoder for gzip or zstd that writes to w; nil if the memory for encoders is used
// up. Release must follow.
func (e *Encoders) Take(c Coding, level int, w io.Writer) *Encoder {
	k := kind{c, level}
	cost := k.memory()
	if used := e.used.Add(cost); e.Limit > 0 && used > e.Limit {
		e.used.Add(-cost)
		return nil
	}
	enc, _ := e.pool(k).Get().(*Encoder)
	if enc == nil {
		enc = &Encoder{compressor: k.compressor(), of: e, kind: k, block: make([]byte, blockSize)}
	}
	enc.Reset(w)
	return enc
}

// Used is how many bytes the encoders in use take.
func (e *Encoders) Used() int64 { return e.used.Load() }

// Release puts the encoder back, whatever it has written. It must not be used after that.
func (e *Encoder) Release() {
	e.Reset(nil) // a response must not stay in memory
	e.of.used.Add(-e.kind.memory())
	e.of.pool(e.kind).Put(e)
}

func (e *Encoders) pool(k kind) *sync.Pool {
	if p, ok := e.pools.Load(k); ok {
		return p.(*sync.Pool)
	}
	p, _ := e.pools.LoadOrStore(k, new(sync.Pool))
	return p.(*sync.Pool)
}

// window is that of zstd: what an encoder looks back, and a decoder has to keep.
const window = 512 << 10

// compressor makes an encoder. Both kinds are about as good, and as fast, at their default level.
func (k kind) compressor() compressor {
	if k.coding == Zstd {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(k.zstdLevel()), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window),
			zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return z
	}
	level := k.level
	if level == 0 {
		level = 5
	}
	g, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		panic(err) // the caller has checked the level
	}
	return g
}

func (k kind) zstdLevel() zstd.EncoderLevel {
	switch {
	case k.level == 0:
		return zstd.SpeedDefault
	case k.level <= 2:
		return zstd.SpeedFastest
	case k.level <= 6:
		return zstd.SpeedDefault
	}
	return zstd.SpeedBetterCompression
}

// memory is what an encoder was measured to take at most, in bytes.
func (k kind) memory() int64 {
	const kib = 1 << 10
	if k.coding == Zstd {
		return map[zstd.EncoderLevel]int64{
			zstd.SpeedFastest: 1300 * kib, zstd.SpeedDefault: 2400 * kib, zstd.SpeedBetterCompression: 5400 * kib,
		}[k.zstdLevel()] + blockSize
	}
	return 1250*kib + blockSize
}
