package http2

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
)

// A server that gives requests back and closes the connection at once, on what is still being sent,
// resets it. What it said before that counts.
func TestGoAwayBeforeAReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { goAwayAndReset(nc) })
		}
	})
	defer serving.Wait()
	defer ln.Close()
	for range 50 {
		c := dial(t, ln.Addr().String(), ClientOptions{})
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		r := request("POST", "/", message.Unknown)
		if err := s.WriteHead(r); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			piece := make([]byte, 16<<10)
			for {
				if err := s.WriteBody(piece); err != nil {
					done <- err
					return
				}
			}
		}()
		var resp message.Response
		if err := s.ReadHead(&resp, time.Now().Add(10*time.Second)); !errors.Is(err, ErrNotProcessed) {
			t.Errorf("reading ends with %v, want %v", err, ErrNotProcessed)
		}
		if err := <-done; !errors.Is(err, ErrNotProcessed) {
			t.Errorf("writing ends with %v, want %v", err, ErrNotProcessed)
		}
		s.Release()
	}
}

// goAwayAndReset says that it has processed nothing once a part of a body has come, and resets the
// connection.
func goAwayAndReset(nc net.Conn) {
	defer nc.Close()
	_ = nc.(*net.TCPConn).SetLinger(0)
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nc)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	for data := 0; ; {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if data += int(f.Header().Length); f.Header().Type == http2.FrameData && data > 1<<20 {
			_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			return
		}
	}
}
