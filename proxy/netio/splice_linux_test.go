package netio

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

func TestSpliceMovesEverythingInOrder(t *testing.T) {
	src, from := pair(t)
	dst, to := pair(t)
	if !CanSplice(dst, src) {
		t.Fatal("two plain TCP sockets cannot splice")
	}
	body := make([]byte, 3<<20)
	_, _ = rand.Read(body)
	go func() {
		_, _ = from.Write(body)
		_ = from.CloseWrite()
	}()
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(to)
		got <- b
	}()
	send(t, dst, "head")
	var moved int64
	for moved < int64(len(body)) {
		n, _, err := Splice(dst, src, int64(len(body))-moved, true)
		if err != nil {
			t.Fatal(err)
		}
		moved += n
	}
	_, _, err := Splice(dst, src, 1<<20, true)
	var side *SpliceError
	if !errors.As(err, &side) || !side.Reading || side.Err != io.EOF {
		t.Errorf("got %v, want an EOF of the source", err)
	}
	if err := dst.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("head"), body...); !bytes.Equal(<-got, want) {
		t.Error("what arrived is not what was sent")
	}
}

func TestSpliceTakesNoMoreThanAsked(t *testing.T) {
	src, from := pair(t)
	dst, to := pair(t)
	send(t, from, "bodynext")
	if n, _, err := Splice(dst, src, 4, true); n != 4 || err != nil {
		t.Fatalf("moved %d, %v; want 4", n, err)
	}
	wantRead(t, to, "body")
	var b Buffer
	fill(t, src, &b, "next")
}

func TestSpliceWithoutWaitingAndWithADeadline(t *testing.T) {
	src, _ := pair(t)
	dst, to := pair(t)
	send(t, dst, "held")
	if n, _, err := Splice(dst, src, 1<<20, false); n != 0 || err != nil {
		t.Fatalf("moved %d, %v; want nothing", n, err)
	}
	wantRead(t, to, "held") // what is owed leaves before anybody waits
	_ = src.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var side *SpliceError
	if _, _, err := Splice(dst, src, 1<<20, true); !errors.As(err, &side) || !side.Reading || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a deadline of the source", err)
	}
}

func TestSpliceToAPeerThatDoesNotRead(t *testing.T) {
	src, from := pair(t)
	dst, _ := pair(t)
	dst.SetPace(Pace{Window: 100 * time.Millisecond, MinRate: 1})
	go func() {
		junk := make([]byte, 64<<10)
		for {
			if _, err := from.Write(junk); err != nil {
				return
			}
		}
	}()
	var err error
	for err == nil {
		_, _, err = Splice(dst, src, 1<<20, true)
	}
	var side *SpliceError
	if !errors.As(err, &side) || side.Reading || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the pace of the destination", err)
	}
	_ = src.Close()
}

func TestSpliceRefusesMPTCPAndUnix(t *testing.T) {
	a, _ := pair(t)
	b, _ := mptcpPair(t)
	if CanSplice(a, b) || CanSplice(b, a) {
		t.Error("an MPTCP socket would be spliced")
	}
	c, _ := unixPair(t)
	if CanSplice(a, c) {
		t.Error("a unix socket would be spliced")
	}
}

func TestSpliceAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	src, from := pair(t)
	dst, to := pair(t)
	junk, back := make([]byte, 64<<10), make([]byte, 64<<10)
	if n := testing.AllocsPerRun(50, func() {
		_, _ = from.Write(junk)
		for left := int64(len(junk)); left > 0; {
			n, _, err := Splice(dst, src, left, true)
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		_, _ = io.ReadFull(to, back)
	}); n != 0 {
		t.Errorf("%v allocations a splice, want 0", n)
	}
}

// What was given back comes first, so it must be read before anything is spliced.
func TestSpliceDoesNotOvertakeWhatWasReadAhead(t *testing.T) {
	src, from := pair(t)
	dst, to := pair(t)
	var ahead Buffer
	send(t, from, "first")
	if err := src.Fill(&ahead); err != nil {
		t.Fatal(err)
	}
	src.Unread(&ahead)
	send(t, from, "second")
	var side *SpliceError
	if n, _, err := Splice(dst, src, 11, true); n != 0 || err == nil || errors.As(err, &side) {
		t.Fatalf("moved %d, %v; want nothing, and an error of neither side", n, err)
	}
	var b Buffer
	fill(t, src, &b, "first")
	if n, _, err := Splice(dst, src, 6, true); n != 6 || err != nil {
		t.Fatalf("moved %d, %v", n, err)
	}
	wantRead(t, to, "second")
	b.Release()
}

func TestMostPipes(t *testing.T) {
	for descriptors, want := range map[uint64]int{0: 0, 15: 0, 64: 4, 1024: 64, 1 << 62: 64} {
		if got := maxPipes(descriptors); got != want {
			t.Errorf("%d descriptors: %d pipes, want %d", descriptors, got, want)
		}
	}
}
