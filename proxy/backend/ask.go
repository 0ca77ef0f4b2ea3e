package backend

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/target"
	"mpgate/task"
)

// Ask is a request of the gateway's own. Its answer is read whole. An Ask may be used again after
// Reset.
type Ask struct {
	Request message.Request // without a host it gets the server's
	Content []byte          // the body of the request
	Key     []byte          // by which a backend with the balance hash chooses a server
	// Timeout bounds the whole exchange, from the choice of a server to the end of the answer's
	// body.
	Timeout time.Duration
	MaxBody int // bytes of the answer's body
	// Discard: nobody looks at the answer's body, so it is not kept.
	Discard bool
	// Late, if set, is called when the answer is late: abort, which may be called from any
	// goroutine, ends the exchange. No call of it may be under way once stop has returned.
	Late func(abort func()) (stop func())

	Response message.Response // once Ask has returned without an error, or with ErrBodyTooLarge
	Body     []byte
	read     int // bytes of the answer's body
}

// Reset prepares a for another request and keeps its memory.
func (a *Ask) Reset() {
	a.Request.Reset()
	a.Response.Reset()
	*a = Ask{Request: a.Request, Content: a.Content[:0], Key: a.Key[:0], Response: a.Response, Body: a.Body[:0]}
}

// ErrBodyTooLarge means that the body of an answer has more than MaxBody bytes.
var ErrBodyTooLarge = errors.New("the body of the answer is too large")

// Ask sends a request to a server and reads the answer. A request that was not processed, or whose
// connection was dead, is sent again once. At the timeout the error is os.ErrDeadlineExceeded, or
// one for which TimedOut is true.
func (b *Backend) Ask(ctx context.Context, a *Ask) error {
	var attempt Attempt
	attempt.Reset(b)
	defer attempt.End()
	attempt.SetKey(a.Key)
	now := time.Now()
	deadline := now.Add(a.Timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	r := Request{Now: now, Bodyless: len(a.Content) == 0, Repeatable: a.Request.Idempotent()}
	a.Request.ContentLength = int64(len(a.Content))
	up, err := attempt.Open(ctx, &r)
	for tries := 1; err == nil; tries++ {
		var again bool
		if again, err = a.exchange(ctx, &attempt, up, deadline); err == nil || !again || tries > 1 {
			return err
		}
		r.Returned++
		r.Now = time.Now()
		up, err = attempt.Reopen(ctx, &r)
	}
	return err
}

// exchange is one try. again reports that the server has not processed the request.
func (a *Ask) exchange(ctx context.Context, attempt *Attempt, up Stream, deadline time.Time) (again bool, err error) {
	meter := attempt.Meter()
	began := time.Now()
	a.read = 0
	hostless := len(a.Request.Host) == 0
	if hostless {
		a.Request.Host = []byte(target.ServerHost(attempt.Server().Host()))
	}
	err = a.head(ctx, up, deadline)
	if hostless {
		a.Request.Host = nil
	}
	if err != nil {
		now := time.Now()
		meter.Request(0)
		attempt.NoteAnswer(now.Sub(began), 0, now)
		again = err == netio.ErrNotIdle || errors.Is(err, ErrNotProcessed) ||
			up.Reused() && !up.Answered() && a.Request.Idempotent() && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded)
	} else {
		now := time.Now()
		meter.FirstByte(now.Sub(began))
		attempt.NoteAnswer(now.Sub(began), a.Response.Status, now)
		meter.Request(a.Response.Status)
		err = a.body(up, deadline)
	}
	switch {
	case err == nil || errors.Is(err, ErrBodyTooLarge):
		attempt.NoteStatus(a.Response.Status)
	case !again && ctx.Err() == nil || TimedOut(err):
		attempt.NoteFailure(err)
	}
	h := &a.Response.Header
	if err != nil || Authenticates(&a.Request.Header) || isChallenge(h) || declaresAuthenticated(h) {
		up.Abort() // nobody else may use the connection
	}
	up.Release(time.Now())
	return again, err
}

// head sends the request and waits for the head of the final answer.
func (a *Ask) head(ctx context.Context, up Stream, deadline time.Time) error {
	if err := up.WriteHead(&a.Request); err != nil {
		return err
	}
	if err := a.content(up, deadline); err != nil {
		return err
	}
	if err := up.End(nil); err != nil {
		return err
	}
	until := time.Now().Add(ClientCheckDelay)
	var stop func()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	for {
		if until.After(deadline) {
			until = deadline
		}
		a.Response.Reset()
		err := up.ReadHead(&a.Response, until)
		switch {
		case err == nil && a.Response.Interim():
		case err == nil && a.Response.Status == 101:
			return &message.Error{Status: 502, Reason: "a 101 that nobody asked for"}
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) || until == deadline:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			if stop == nil && a.Late != nil {
				stop = a.Late(up.Abort)
			}
			until = time.Now().Add(time.Second) // to look at ctx
		}
	}
}

// content sends the body of the request. A server that does not read it is waited for until the
// deadline.
func (a *Ask) content(up Stream, deadline time.Time) error {
	if len(a.Content) == 0 {
		return nil
	}
	expired := make(chan struct{})
	timer := task.AfterFunc(time.Until(deadline), "end of the time for a request", func() {
		defer close(expired)
		up.Abort()
	})
	var err error
	for rest := a.Content; err == nil && len(rest) > 0; {
		n := min(len(rest), maxPiece)
		if err = message.WaitRoom(up, 0); err == nil {
			err = up.WriteBody(rest[:n])
		}
		rest = rest[n:]
	}
	if err == nil {
		err = up.Flush()
	}
	if !timer.Stop() {
		<-expired
		return os.ErrDeadlineExceeded
	}
	return err
}

// maxPiece is how much of a request's body is written before the next look at the server's window.
const maxPiece = 16 << 10

// body reads the body of the answer.
func (a *Ask) body(up Stream, deadline time.Time) error {
	if a.Response.NoBody {
		return nil
	}
	done, err := a.pieces(up, false)
	if done || err != nil {
		return err
	}
	expired := make(chan struct{})
	timer := task.AfterFunc(time.Until(deadline), "end of the time for an answer", func() {
		defer close(expired)
		up.Abort()
	})
	_, err = a.pieces(up, true)
	if !timer.Stop() {
		<-expired
		err = os.ErrDeadlineExceeded
	}
	return err
}

// pieces reads what has arrived of the body, or with wait all of it. done: that was all.
func (a *Ask) pieces(up Stream, wait bool) (done bool, err error) {
	for body := up.Body(); ; {
		p, err := body.Next(wait)
		a.read += len(p)
		switch {
		case err == nil && a.read > a.MaxBody:
			return false, ErrBodyTooLarge
		case err == nil && a.Discard:
		case err == nil:
			a.Body = append(a.Body, p...)
		case err == io.EOF:
			return true, nil
		case err == message.ErrWait && !wait:
			return false, nil
		case err == message.ErrSlow:
		default:
			return false, err
		}
	}
}
