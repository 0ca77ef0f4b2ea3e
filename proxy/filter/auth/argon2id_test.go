package auth

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/crypto/argon2"
)

// One goroutine computes what the package argon2 computes with a thread for each lane.
func TestArgon2id(t *testing.T) {
	for _, c := range []struct{ passes, memory, lanes, length uint32 }{
		{1, 8, 1, 16}, {1, 64, 1, 32}, {3, 64, 4, 32}, {2, 67, 2, 65}, {1, 1000, 3, 64}, {2, 4096, 4, 128}, {4, 300, 16, 24}, {1, 8 << 10, 1, 33},
	} {
		for _, password := range []string{"", "secret", "pässword"} {
			salt := []byte("somesalt" + password)
			got := argon2id([]byte(password), salt, c.passes, c.memory, c.lanes, c.length)
			if want := argon2.IDKey([]byte(password), salt, c.passes, c.memory, uint8(c.lanes), c.length); !bytes.Equal(got, want) {
				t.Errorf("%+v, %q: %x, want %x", c, password, got, want)
			}
		}
	}
}

// A hash with more lanes than there are processors for it starts no goroutine, and has the same
// result.
func TestLanesAreBounded(t *testing.T) {
	salt := []byte("somesalt")
	h := &argon2idHash{passes: 2, memory: 4 << 10, lanes: 8, salt: salt, key: argon2.IDKey([]byte("secret"), salt, 2, 4<<10, 8, 32)}
	if h.threads(8) != 8 || h.threads(16) != 8 || h.threads(7) != 1 || h.threads(1) != 1 {
		t.Error(h.threads(8), h.threads(16), h.threads(7), h.threads(1))
	}
	for threads := range int64(10) {
		if !h.matches([]byte("secret"), threads) || h.matches([]byte("Secret"), threads) {
			t.Errorf("with %d threads", threads)
		}
	}
	before := runtime.NumGoroutine()
	most := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				most <- n
				return
			default:
				n = max(n, runtime.NumGoroutine())
				runtime.Gosched()
			}
		}
	}()
	for range 5 {
		h.matches([]byte("secret"), 2)
	}
	close(stop)
	if n := <-most; n > before+1 {
		t.Errorf("%d goroutines, had %d", n, before)
	}
}

func BenchmarkArgon2id(b *testing.B) {
	for _, lanes := range []uint32{1, 4} {
		b.Run(fmt.Sprintf("one goroutine/p=%d", lanes), func(b *testing.B) {
			for b.Loop() {
				argon2id([]byte("secret"), []byte("somesalt"), 3, 64<<10, lanes, 32)
			}
		})
		b.Run(fmt.Sprintf("a goroutine a lane/p=%d", lanes), func(b *testing.B) {
			for b.Loop() {
				argon2.IDKey([]byte("secret"), []byte("somesalt"), 3, 64<<10, uint8(lanes), 32)
			}
		})
	}
}
