package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/task"
)

// upload is a request's body that had not arrived whole with its head.
type upload struct {
	done  chan struct{}         // closed at its end; nil where there is none
	sent  atomic.Int64          // when the server had it whole, since the start of the exchange; 0: not yet
	fault atomic.Pointer[error] // what the client did wrong
	stop  atomic.Bool           // it is being stopped; what the server has is to be left alone
	bytes int64                 // read after done
}

// inlineBody is the largest body that is sent before the answer is awaited: less than any socket
// takes without being read, so that an early answer cannot block both sides.
const inlineBody = 16 << 10

// sendBody sends what has arrived of the request's body. If that is not all, a second goroutine
// continues.
func (x *exchange) sendBody() error {
	if x.req.ContentLength == 0 {
		return x.up.End(nil)
	}
	body := x.body()
	x.rec.BytesIn = 0 // what is sent again is counted again
	for x.req.ContentLength <= inlineBody && x.rec.BytesIn <= inlineBody && x.kept.left() <= inlineBody {
		p, err := body.Next(false)
		switch err {
		case nil:
			x.rec.BytesIn += int64(len(p))
			if err := x.up.WriteBody(p); err != nil {
				return err
			}
			continue
		case io.EOF:
			return x.up.End(x.trailer())
		case message.ErrWait:
		default:
			return &clientError{err}
		}
		break
	}
	x.upload.done = make(chan struct{})
	x.uploaded.Reset()
	x.downloaded.Reset()
	x.down.SetProgress(&x.uploaded, &x.downloaded)
	x.up.SetProgress(&x.downloaded, &x.uploaded)
	task.Go("upload", x.runUpload, nil)
	return nil
}

// trailer is what came behind the request's body, held to the same names as its head.
func (x *exchange) trailer() *message.Header {
	t := &x.req.Trailer
	if t.Len() > 0 {
		x.cleanNames(t)
		x.chain.Trailer(t)
	}
	return t
}

// runUpload sends the rest of the request's body. It ends with the body, with either side, or when
// joinUpload cuts it.
func (x *exchange) runUpload() {
	defer close(x.upload.done)
	defer func() {
		if v := recover(); v != nil {
			x.proxy.caught("panic in an upload", string(x.rec.IDText()), v)
			err := errPanic
			x.upload.fault.Store(&err)
			x.up.Abort()
		}
	}()
	n, fromClient, toServer := relay(x.up, x.body(), nil, &x.uploaded)
	x.upload.bytes = n
	if x.kept.done.Load() {
		x.kept.drop()
	}
	if fromClient == netio.ErrInterrupted && x.upload.stop.Load() {
		return
	}
	if fromClient != nil {
		x.upload.fault.Store(&fromClient)
		x.up.Abort() // what the server has must not look complete
		return
	}
	if toServer == nil {
		toServer = x.up.End(x.trailer())
	}
	if toServer == nil {
		_ = x.up.Flush()
	}
	// A server that takes no more may have answered: whoever reads from it will see.
	x.upload.sent.Store(max(1, int64(time.Since(x.start))))
}

// stopUpload stops an upload before its end. What the client still sends can be read afterwards.
func (x *exchange) stopUpload() {
	x.upload.stop.Store(true)
	x.down.Interrupt()
	<-x.upload.done
	x.down.Resume()
}

// pauseUpload stops the upload of a request that is to be sent again, and gives what the client did
// wrong meanwhile.
func (x *exchange) pauseUpload() error {
	if x.upload.done == nil {
		return nil
	}
	x.stopUpload()
	fault := x.upload.fault.Load()
	x.joinUpload()
	if fault != nil {
		return *fault
	}
	return nil
}

// settleUpload gives an upload behind a complete response a moment. Mostly the server, which has
// answered, had the body whole, and the goroutine that sent it has yet to notice; a client that
// still sends may come to its end.
func (x *exchange) settleUpload() {
	if x.upload.done == nil {
		return
	}
	select {
	case <-x.upload.done:
	default:
		late := time.NewTimer(backend.ClientCheckDelay)
		defer late.Stop()
		select {
		case <-x.upload.done:
		case <-late.C:
			return
		}
	}
	if !x.down.Multiplexed() && !x.closing && !x.down.BodyDone() && x.upload.fault.Load() == nil {
		x.skipRest()
	}
}

// maxSkipped is the most of a body that is read to no end but that the client's connection can
// continue.
const maxSkipped = 256 << 10

// skipRest throws away what is left of a body that the server, which has answered, does not take. A
// client that sends it within a moment keeps its connection.
func (x *exchange) skipRest() {
	late := make(chan struct{})
	timer := task.AfterFunc(backend.ClientCheckDelay, "rest of an upload: end", func() {
		defer close(late)
		x.down.Interrupt()
	})
	for n := 0; n < maxSkipped; {
		p, err := x.down.Body().Next(true)
		n += len(p)
		x.rec.BytesIn += int64(len(p))
		if err != nil {
			break
		}
	}
	if !timer.Stop() {
		<-late
		x.down.Resume()
	}
}

// endUpload ends an upload whose goroutine still runs.
func (x *exchange) endUpload() {
	if x.down.BodyDone() {
		// The client's part is over. A server that does not take the rest loses its connection, the
		// client does not.
		x.up.Abort()
		<-x.upload.done
		return
	}
	x.down.SetClose() // what still comes is no request
	x.up.Abort()
	x.down.Interrupt()
	<-x.upload.done
	x.down.Resume()
}

// joinUpload ends an upload that is still under way, and waits for its goroutine.
func (x *exchange) joinUpload() {
	if x.upload.done == nil {
		return
	}
	select {
	case <-x.upload.done:
	default:
		x.endUpload()
	}
	x.down.SetProgress(nil, nil)
	if x.up != nil {
		x.up.SetProgress(nil, nil)
	}
	x.rec.BytesIn += x.upload.bytes
	x.upload = upload{}
}

// awaitUpload waits until the server has the request's body whole: the other protocol begins behind
// it (RFC 9110 section 7.8). Where that fails, it ends the exchange and is false. The pace of both
// sides bounds the wait; a client that holds its body back until it is told to go on never would
// send it.
func (x *exchange) awaitUpload() bool {
	if x.upload.done == nil {
		return true
	}
	waits := x.waitsFor100()
	if !waits {
		<-x.upload.done
		if x.upload.fault.Load() == nil && x.down.BodyDone() {
			x.joinUpload()
			return true
		}
	}
	err := x.blame(errUploadUnfinished)
	x.up.Abort()
	x.joinUpload()
	x.answer(serverAnswer(err))
	return false
}

var errUploadUnfinished = errors.New("the server changed protocols before it had the whole request")
