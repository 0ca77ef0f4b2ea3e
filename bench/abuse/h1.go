package abuse

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

const host = " HTTP/1.1\r\nHost: bench.example\r\n"

// pour sends begin, and then piece again and again, which has units of what the attack counts in
// it; every so often, or without a pause. The answer that the proxy ends it with is how it ended.
func (c *conn) pour(begin string, piece []byte, units int, every time.Duration) error {
	heard := make(chan error, 1)
	go func() { heard <- c.answer() }()
	err := c.send([]byte(begin), 1)
	for err == nil {
		if every > 0 {
			t := time.NewTimer(every)
			select {
			case e := <-heard: // it is over; there may be nothing more to send to
				t.Stop()
				return e
			case <-c.ctx.Done():
				t.Stop()
				return os.ErrDeadlineExceeded
			case <-t.C:
			}
		}
		err = c.send(piece, units)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	}
	if e := <-heard; e != nil && !errors.Is(e, os.ErrDeadlineExceeded) {
		return e
	}
	return err
}

// answer reads until the connection ends. The last status is what it was ended with.
func (c *conn) answer() error {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if at := bytes.Index(buf[:n], []byte("HTTP/1.1 ")); at >= 0 && n >= at+12 {
			c.said = "status " + string(buf[at+9:at+12])
			c.answers.Add(1)
		}
		if err != nil {
			return err
		}
	}
}

func endlessHead(c *conn) error {
	const field = "X-Short: 12345\r\n"
	return c.pour("GET /bytes/1024"+host, bytes.Repeat([]byte(field), 1000), 1000, 0)
}

const chunked = "POST /sink" + host + "Transfer-Encoding: chunked\r\n\r\n"

func chunkExtension(c *conn) error {
	return c.pour(chunked+"1;", bytes.Repeat([]byte("x"), 16<<10), 1, 0)
}

func tinyChunks(c *conn) error {
	one := "1;" + string(bytes.Repeat([]byte("x"), 64)) + "\r\na\r\n"
	return c.pour(chunked, bytes.Repeat([]byte(one), each), each, 0)
}

func slowHead(c *conn) error {
	return c.pour("GET /bytes/1024"+host, []byte("X-Slow: 1\r\n"), 1, 500*time.Millisecond)
}

func slowBody(c *conn) error {
	return c.pour("POST /sink"+host+"Content-Length: 1000000\r\n\r\n", []byte("a"), 1, 500*time.Millisecond)
}

// halfHandshake begins a TLS record and leaves it at that.
func halfHandshake(c *conn) error {
	if err := c.send([]byte{0x16, 0x03, 0x01}, 1); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	if err == nil {
		err = io.EOF
	}
	return err
}
