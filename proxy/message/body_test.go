package message_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"mpgate/proxy/message"
)

// sink is a writer of a codec: it holds what it gets until Flush, and its peer grants a window.
type sink struct {
	held, sent bytes.Buffer
	ended      bool
	window     error // what WaitRoom gives
	waited     []int
}

func (s *sink) WriteBody(p []byte) error  { s.held.Write(p); return nil }
func (s *sink) Flush() error              { _, err := s.held.WriteTo(&s.sent); return err }
func (s *sink) End(*message.Header) error { s.ended = true; return s.Flush() }
func (s *sink) WaitRoom(held int) error   { s.waited = append(s.waited, held); return s.window }

// plain hides what else its writer can do.
type plain struct{ message.BodyWriter }

// upper is a filter, written as BodyWriter says. It holds what it gets until Flush.
type upper struct {
	to   message.BodyWriter
	held []byte
}

func (u *upper) WriteBody(p []byte) error { u.held = append(u.held, p...); return nil }

func (u *upper) hand() error {
	p := bytes.ToUpper(u.held)
	u.held = u.held[:0]
	return u.to.WriteBody(p)
}

func (u *upper) Flush() error { return errors.Join(u.hand(), u.to.Flush()) }

func (u *upper) End(t *message.Header) error { return errors.Join(u.hand(), u.to.End(t)) }

func (u *upper) WaitRoom(held int) error { return message.WaitRoom(u.to, held+len(u.held)) }

func TestFilterKeepsFlushAndWindow(t *testing.T) {
	s := &sink{}
	var w message.BodyWriter = &upper{to: s}
	if err := w.WriteBody([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	s.window = io.ErrClosedPipe
	if err := w.(message.Windowed).WaitRoom(4); err != io.ErrClosedPipe {
		t.Errorf("WaitRoom gave %v, want the writer's %v", err, io.ErrClosedPipe)
	}
	if len(s.waited) != 1 || s.waited[0] != 7 {
		t.Errorf("the writer was told of %v held bytes, want [7]", s.waited)
	}
	if err := w.Flush(); err != nil || s.sent.String() != "ABC" {
		t.Errorf("Flush sent %q, %v", s.sent.String(), err)
	}
	if err := errors.Join(w.WriteBody([]byte("d")), w.End(nil)); err != nil || s.sent.String() != "ABCD" || !s.ended {
		t.Errorf("End sent %q, ended: %v, %v", s.sent.String(), s.ended, err)
	}
	if err := message.WaitRoom(plain{s}, 1); err != nil || len(s.waited) != 1 {
		t.Errorf("a writer without windows waits: %v", err)
	}
}
