package http2

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

const (
	frameHeaderLen = 9
	maxFrame       = 16 << 10 // bytes of a payload that we accept
	maxStreamID    = 1<<31 - 1
	maxWindow      = 1<<31 - 1
)

// The first byte of a PING of ours says what it was sent for.
const (
	pingAlive = 'a'
	pingSpeed = 's'
	pingDrain = 'd'
)

// connLimits are the options that both ends have. HeaderTime is for the rest of a header block, and
// for the first frames; IdleTime is also for a connection without a stream.
type connLimits struct {
	Limits
	pingEvery  time.Duration // of silence, while streams are open
	pingAnswer time.Duration
	memory     *Memory
}

// setDefaults fills in the defaults that both ends share.
func (l *connLimits) setDefaults() {
	setDefault(&l.pingEvery, 15*time.Second)
	setDefault(&l.pingAnswer, 15*time.Second)
}

// conn is either end of a connection.
type conn struct {
	s      netio.Stream
	base   *netio.Conn
	limits connLimits
	// One of them is set: the end that this is.
	server *ServerConn
	client *ClientConn

	// The reading goroutine's.
	in          netio.Buffer
	framer      *http2.Framer
	decoder     *hpack.Decoder
	fields      fields
	block       blockState
	gotSettings bool // the peer's first SETTINGS came
	resets      bucket
	controls    bucket
	updates     bucket
	pinged      time.Time // when a PING was sent after which nothing has come; zero: none
	prefix      [16]byte
	trailer     message.Header // being read

	mu             sync.Mutex // guards what follows
	streams        map[uint32]*stream
	open           int        // streams that are open or half-closed (RFC 9113 section 5.1.2)
	lastID         uint32     // the highest that was opened, by whichever side opens them
	err            error      // why the connection is at its end
	recentlyClosed closedRing // streams that we have closed before the peer knew
	lateBytes      int64      // bytes of DATA that may be on their way for those
	idleSince      time.Time
	goneMu         sync.Mutex // held while the functions given to Watch are called

	flow
	out
}

// closedRing remembers the last streams for which frames may still be in flight. Of those before it
// knows only the highest, and counts all up to that as remembered.
type closedRing struct {
	ids     [256]uint32
	next    uint8
	evicted uint32
}

func (r *closedRing) add(id uint32) {
	r.evicted = max(r.evicted, r.ids[r.next])
	r.ids[r.next] = id
	r.next++
}

func (r *closedRing) has(id uint32) bool {
	for _, i := range r.ids {
		if i == id {
			return true
		}
	}
	return id <= r.evicted
}

// remember notes a stream that we have closed, and what is left of its window; c.mu is held.
func (c *conn) remember(id uint32, window int64) {
	c.recentlyClosed.add(id)
	// No more can be in flight than the connection's window.
	c.lateBytes = min(c.lateBytes+max(0, window), max(c.recvTarget, c.recvWindow))
}

func (c *conn) init(s netio.Stream, l connLimits) {
	c.s, c.base, c.limits = s, s.Base(), l
	c.streams = map[uint32]*stream{}
	c.framer = http2.NewFramer(io.Discard, frameReader{c})
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.decoder = hpack.NewDecoder(tableLimit, c.fields.add)
	c.decoder.SetMaxStringLength(bombFactor * l.HeaderBytes)
	c.resets = newBucket(resetBudget, resetRate)
	c.controls = newBucket(controlBudget, controlRate)
	c.updates = newBucket(controlBudget, controlRate)
	c.idleSince = time.Now()
	c.flow.init()
	c.out.init(c)
	c.base.SetPace(netio.Pace{Window: l.IdleTime, MinRate: l.MinRate})
}

// frameReader is the Framer's reader.
type frameReader struct{ c *conn }

func (r frameReader) Read(p []byte) (int, error) {
	b, err := r.c.take(len(p))
	return copy(p, b), err
}

// take returns up to n bytes that have come, and waits for the first.
func (c *conn) take(n int) ([]byte, error) {
	if c.in.Len() == 0 {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	return c.in.Take(n), nil
}

// fill waits for more from the peer. All that came before has been processed: streams that it
// opened start now, and what is held leaves.
func (c *conn) fill() error {
	if c.server != nil {
		c.server.start()
	}
	if err := c.beforeWaiting(); err != nil {
		return err
	}
	for {
		_ = c.base.SetReadDeadline(c.deadline(time.Now()))
		err := c.s.Fill(&c.in)
		switch {
		case err == nil:
			if !c.pinged.IsZero() { // any bytes show that the peer is alive
				c.mu.Lock()
				c.pinged = time.Time{}
				c.mu.Unlock()
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := c.readTimeout(time.Now()); err != nil {
				return err
			}
		case errors.Is(err, netio.ErrInterrupted):
			c.base.Resume()
			if c.interrupted() {
				return err
			}
		default:
			return err
		}
	}
}

// beforeWaiting is what the reader does before it waits for the peer.
func (c *conn) beforeWaiting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controls.earn(c.earned, controlBudget)
	c.updates.earn(c.sent/bytesAnUpdate+c.earned, updatesSaved)
	c.earned, c.sent = 0, c.sent%bytesAnUpdate
	c.flushFromReader()
	if len(c.buf) > maxControlHeld && c.writing && c.controlHeld > maxControlHeld {
		return enhanceYourCalm("the peer does not read the replies that it requests")
	}
	return nil
}

// interrupted says, when the reader was woken, whether the connection is to end.
func (c *conn) interrupted() bool {
	if c.server != nil {
		c.server.start()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		return c.server.drained()
	}
	return c.client.drained()
}

// deadline is the end of the reader's wait for the peer.
func (c *conn) deadline(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.gotSettings:
		return c.idleSince.Add(c.limits.HeaderTime)
	case c.block.open:
		return c.block.began.Add(c.limits.HeaderTime)
	case !c.pinged.IsZero():
		return c.pinged.Add(c.limits.pingAnswer)
	case c.unused():
		return c.idleSince.Add(c.limits.IdleTime)
	}
	return now.Add(c.limits.pingEvery)
}

// unused says that the connection has neither streams nor handlers; c.mu is held.
func (c *conn) unused() bool {
	if c.server != nil {
		return len(c.streams) == 0 && c.server.running == 0
	}
	return len(c.streams)+c.client.reserved == 0
}

// readTimeout is called at the deadline. It gives an error if the connection is to end.
func (c *conn) readTimeout(now time.Time) error {
	switch {
	case !c.gotSettings, c.block.open:
		return os.ErrDeadlineExceeded
	case !c.pinged.IsZero():
		if now.Before(c.pinged.Add(c.limits.pingAnswer)) {
			return nil
		}
		return errSilent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unused() {
		if now.Before(c.idleSince.Add(c.limits.IdleTime)) {
			return nil
		}
		if c.client != nil {
			c.client.goingAway = true // before a stream is opened that would end with it
		}
		return os.ErrDeadlineExceeded
	}
	c.pinged = now
	c.appendPing(false, [8]byte{pingAlive})
	c.flushFromReader()
	return nil
}

// read processes frames until the connection ends, and returns the reason.
func (c *conn) read() error {
	for {
		h, err := c.framer.ReadFrameHeader()
		if err == nil {
			err = c.frame(h)
		}
		if err == nil {
			continue
		}
		var code http2.ConnectionError
		var stream http2.StreamError
		switch {
		case errors.As(err, &stream):
			if err = c.failStream(stream.StreamID, stream.Code); err == nil {
				continue
			}
		case errors.As(err, &code):
			reason := "invalid frame"
			if d := c.framer.ErrorDetail(); d != nil {
				reason = d.Error()
			}
			err = &ConnError{http2.ErrCode(code), reason}
		case errors.Is(err, http2.ErrFrameTooLarge):
			err = &ConnError{http2.ErrCodeFrameSize, "frame of more than 16 KiB"}
		}
		return err
	}
}

// frame takes the payload of one frame.
func (c *conn) frame(h http2.FrameHeader) error {
	if !c.gotSettings && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)) {
		return protocolError("the first frame is not SETTINGS")
	}
	switch h.Type {
	case http2.FrameData:
		return c.data(h)
	case http2.FrameHeaders:
		return c.headers(h)
	case http2.FrameContinuation:
		return c.continuation(h)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(h)
	case http2.FrameRSTStream:
		return c.reset(h)
	case http2.FrameSettings, http2.FramePing, http2.FrameGoAway, http2.FramePriority, http2.FramePriorityUpdate, http2.FramePushPromise:
		if !c.controls.take(1) {
			return enhanceYourCalm("too many control frames")
		}
		return c.control(h)
	}
	if !c.controls.take(1) {
		return enhanceYourCalm("too many unknown frames")
	}
	return c.skip(int(h.Length))
}

// skip drops n bytes.
func (c *conn) skip(n int) error {
	for n > 0 {
		b, err := c.take(n)
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// readPrefix reads the first n bytes of a payload.
func (c *conn) readPrefix(n int) ([]byte, error) {
	_, err := io.ReadFull(frameReader{c}, c.prefix[:n])
	return c.prefix[:n], err
}

// padding reads the length of the padding at the front of a payload of n bytes, and returns how
// many bytes of data precede the padding.
func (c *conn) padding(h http2.FrameHeader, n int) (data, pad int, err error) {
	if !h.Flags.Has(http2.FlagDataPadded) { // the same bit for all frames that are padded
		return n, 0, nil
	}
	if n == 0 {
		return 0, 0, &ConnError{http2.ErrCodeFrameSize, "padded frame without a padding length"}
	}
	b, err := c.readPrefix(1)
	if err != nil {
		return 0, 0, err
	}
	if pad = int(b[0]); pad > n-1 {
		return 0, 0, protocolError("padding is longer than the payload")
	}
	return n - 1 - pad, pad, nil
}

// clientID says whether clients open streams with this identifier. All are such here: there is no
// server push.
func clientID(id uint32) bool { return id%2 == 1 }
