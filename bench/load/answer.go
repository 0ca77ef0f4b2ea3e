package load

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// Answer is what the generator needs to know of a response.
type Answer struct {
	Status int
	Body   int64 // bytes of it
	Wire   int64 // bytes received, head included
	Close  bool
}

// AnswerError is a response that is none.
type AnswerError struct{ Why string }

func (e *AnswerError) Error() string { return "response: " + e.Why }

// ReadAnswer reads one response with a Content-Length from r, using buf, and throws its body away.
// Chunked ones are refused: the backend sends a length, and a proxy that changes it does other work
// than the rest.
func ReadAnswer(r io.Reader, buf []byte) (Answer, error) {
	var a Answer
	n, end := 0, -1
	for end < 0 {
		if n == len(buf) {
			return a, &AnswerError{"its head is longer than " + strconv.Itoa(n) + " bytes"}
		}
		m, err := r.Read(buf[n:])
		n += m
		a.Wire += int64(m)
		if m == 0 && err != nil {
			return a, err
		}
		end = bytes.Index(buf[:n], []byte("\r\n\r\n"))
	}
	length, err := a.head(buf[:end+2])
	if err != nil {
		return a, err
	}
	a.Body = int64(n - end - 4)
	if a.Body > length {
		return a, &AnswerError{fmt.Sprintf("%d bytes behind a body of %d", a.Body-length, length)}
	}
	for a.Body < length {
		m, err := r.Read(buf[:min(int64(len(buf)), length-a.Body)])
		a.Body += int64(m)
		a.Wire += int64(m)
		if m == 0 && err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a *Answer) head(head []byte) (length int64, err error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 || string(line[:7]) != "HTTP/1." {
		return 0, &AnswerError{fmt.Sprintf("status line (got %q)", line)}
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, &AnswerError{fmt.Sprintf("status line (got %q)", line)}
	}
	a.Status = status
	length = -1
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.ParseInt(string(value), 10, 64)
			if err != nil || length < 0 {
				return 0, &AnswerError{fmt.Sprintf("Content-Length (got %q)", value)}
			}
		case bytes.EqualFold(name, []byte("Connection")):
			a.Close = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return 0, &AnswerError{fmt.Sprintf("status %d without Content-Length", status)}
	}
	return length, nil
}
