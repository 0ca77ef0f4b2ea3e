package coding_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"mpgate/proxy/coding"
)

func decode(t *testing.T, c coding.Coding, b []byte) string {
	t.Helper()
	var r io.Reader
	var err error
	if c == coding.Gzip {
		r, err = gzip.NewReader(bytes.NewReader(b))
	} else {
		var z *zstd.Decoder
		z, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestEncoders(t *testing.T) {
	var e coding.Encoders
	for _, c := range []coding.Coding{coding.Gzip, coding.Zstd} {
		for level := range coding.MaxLevel + 1 {
			for range 2 { // the second one is used again
				for _, text := range []string{"", "short", strings.Repeat("some text ", 100_000)} {
					var b bytes.Buffer
					enc := e.Take(c, level, &b)
					if e.Used() == 0 {
						t.Error("an encoder in use takes no memory")
					}
					if _, err := enc.Write([]byte(text)); err != nil {
						t.Fatal(err)
					}
					if err := enc.Close(); err != nil {
						t.Fatal(err)
					}
					enc.Release()
					if got := decode(t, c, b.Bytes()); got != text {
						t.Errorf("%v, level %d: %d bytes come back as %d", c, level, len(text), len(got))
					}
					if b.Len() == 0 || len(text) > 1000 && b.Len() > len(text)/50 {
						t.Errorf("%v, level %d: %d bytes become %d", c, level, len(text), b.Len())
					}
				}
			}
		}
	}
	if e.Used() != 0 {
		t.Errorf("%d bytes are in use after the last release", e.Used())
	}
}

// What was flushed can be decoded, and comes at once.
func TestFlush(t *testing.T) {
	var e coding.Encoders
	for _, c := range []coding.Coding{coding.Gzip, coding.Zstd} {
		var b bytes.Buffer
		enc := e.Take(c, 0, &b)
		_, _ = enc.Write([]byte("one"))
		if err := enc.Flush(); err != nil {
			t.Fatal(err)
		}
		var r io.Reader
		var err error
		if c == coding.Gzip {
			r, err = gzip.NewReader(&b)
		} else {
			r, err = zstd.NewReader(&b, zstd.WithDecoderConcurrency(1))
		}
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "one" {
			t.Errorf("%v: %q, %v", c, got, err)
		}
		enc.Release()
	}
}

func TestEncodersAreBounded(t *testing.T) {
	e := coding.Encoders{Limit: 3 << 20}
	var taken []*coding.Encoder
	for enc := e.Take(coding.Gzip, 0, io.Discard); enc != nil; enc = e.Take(coding.Gzip, 0, io.Discard) {
		taken = append(taken, enc)
	}
	if len(taken) != 2 {
		t.Errorf("%d encoders in 3 MiB, want 2", len(taken))
	}
	taken[0].Release()
	if enc := e.Take(coding.Gzip, 0, io.Discard); enc == nil {
		t.Error("no encoder after a release")
	}
}
