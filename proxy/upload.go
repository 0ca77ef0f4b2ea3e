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

// upload is a request's body that did not arrive completely with its head.
type upload struct {
	done chan struct{} // closed at its end; nil: no upload
	// When it was sent completely, since the start of the exchange; 0: not yet.
	sent  atomic.Int64
	fault atomic.Pointer[error] // the client's error
	stop  atomic.Bool           // it is being stopped; the server's connection stays
	bytes int64                 // read after done
}

// inlineBody is the longest body that is sent before the gateway waits for the answer: it fits in
// any socket's buffers, so that an early answer cannot block both sides.
const inlineBody = 16 << 10

// sendBody sends what has arrived of the request's body. If that is not all, a second goroutine
// continues.
func (x *exchange) sendBody() error {
	if x.req.ContentLength == 0 {
		return x.up.End(nil)
	}
	body := x.body()
	x.rec.BytesIn = 0 // a retry counts again
	for x.req.ContentLength <= inlineBody && x.rec.BytesIn <= inlineBody && x.kept.remaining() <= inlineBody {
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

// trailer returns the request's trailer. The names in it are restricted as in the head.
func (x *exchange) trailer() *message.Header {
	t := &x.req.Trailer
	if t.Len() > 0 {
		x.cleanNames(t)
		x.chain.Trailer(t)
	}
	return t
}

// runUpload sends the rest of the request's body. It ends with the body, after an error, or when
// joinUpload ends it.
func (x *exchange) runUpload() {
	defer close(x.upload.done)
	defer func() {
		if v := recover(); v != nil {
			x.proxy.logPanic("panic in an upload", string(x.rec.IDText()), v)
			err := errPanic
			x.upload.fault.Store(&err)
			x.up.Abort()
		}
	}()
	n, fromClient, toServer := relay(x.up, x.body(), nil, &x.uploaded)
	x.upload.bytes = n
	if x.kept.unneeded.Load() {
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
	// A server that accepts no more may have answered: the goroutine that reads from it finds out.
	x.upload.sent.Store(max(1, int64(time.Since(x.start))))
}

// stopUpload stops an upload before its end. What the client still sends can be read afterwards.
func (x *exchange) stopUpload() {
	x.upload.stop.Store(true)
	x.down.Interrupt()
	<-x.upload.done
	x.down.Resume()
}

// pauseUpload stops the upload of a request before a retry, and returns the client's error, if any.
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

// lingerUpload waits briefly for an upload after a complete response. Usually the server has the
// complete body, and only the goroutine that sent it has not ended yet; a client that still sends
// may finish.
func (x *exchange) lingerUpload() {
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
		x.discardRest()
	}
}

// maxDiscarded limits the bytes of a body that are discarded so that the client's connection can
// continue.
const maxDiscarded = 256 << 10

// discardRest discards the rest of a body that the server, which has answered, does not read. A
// client that sends it soon keeps its connection.
func (x *exchange) discardRest() {
	late := make(chan struct{})
	timer := task.AfterFunc(backend.ClientCheckDelay, "rest of an upload: end", func() {
		defer close(late)
		x.down.Interrupt()
	})
	for n := 0; n < maxDiscarded; {
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

// abortUpload ends an upload whose goroutine still runs.
func (x *exchange) abortUpload() {
	if x.down.BodyDone() {
		// The client has sent everything. A server that does not read the rest loses its
		// connection, the client does not.
		x.up.Abort()
		<-x.upload.done
		return
	}
	x.down.SetClose() // what the client still sends is not a request
	x.up.Abort()
	x.down.Interrupt()
	<-x.upload.done
	x.down.Resume()
}

// joinUpload ends an upload that is still in progress, and waits for its goroutine.
func (x *exchange) joinUpload() {
	if x.upload.done == nil {
		return
	}
	select {
	case <-x.upload.done:
	default:
		x.abortUpload()
	}
	x.down.SetProgress(nil, nil)
	if x.up != nil {
		x.up.SetProgress(nil, nil)
	}
	x.rec.BytesIn += x.upload.bytes
	x.upload = upload{}
}

// awaitUpload waits until the request's body is sent completely: the new protocol begins after it
// (RFC 9110 section 7.8). If that fails, it ends the exchange and returns false. The minimum rate
// limits the wait; a client that waits for a 100 would never send its body.
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
	err := x.cause(errUploadUnfinished)
	x.up.Abort()
	x.joinUpload()
	x.answer(serverAnswer(err))
	return false
}

var errUploadUnfinished = errors.New("the server changed protocols before it had the whole request")
