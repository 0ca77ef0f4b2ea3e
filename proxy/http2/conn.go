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
	maxFrame       = 16 << 10 // that we take
	maxStreamID    = 1<<31 - 1
	maxWindow      = 1<<31 - 1
)

// What a PING of ours was sent for is told by its first byte.
const (
	pingAlive = 'a'
	pingSpeed = 's'
	pingDrain = 'd'
)

// connLimits are what both ends have in common. HeaderTime is for the rest of a header block, and
// for the first frames; IdleTime is also for a connection without a stream.
type connLimits struct {
	Limits
	pingEvery  time.Duration // of silence, while streams are open
	pingAnswer time.Duration
	memory     *Memory
}

// setDefaults fills in what the ends have the same defaults for.
func (l *connLimits) setDefaults() {
	setDefault(&l.pingEvery, 15*time.Second)
	setDefault(&l.pingAnswer, 15*time.Second)
}

// conn is a connection, whichever end of it we are.
type conn struct {
	s      netio.Stream
	base   *netio.Conn
	limits connLimits
	// server or client is the end that this is.
	server *ServerConn
	client *ClientConn

	// The reading goroutine's.
	in       netio.Buffer
	framer   *http2.Framer
	decoder  *hpack.Decoder
	fields   fields
	block    blockState
	settled  bool // the peer's first SETTINGS came
	resets   bucket
	controls bucket
	updates  bucket
	pinged   time.Time // when a ping was sent, after which nothing has come; zero: none is out
	head     [16]byte
	trailer  message.Header // that is being read

	mu      sync.Mutex // guards what follows
	streams map[uint32]*stream
	open    int    // streams that are open or half-closed (RFC 9113 section 5.1.2)
	lastID  uint32 // the highest that was opened, by whichever side opens them
	err     error  // why the connection is at its end
	closed  ring   // streams that we have closed before the peer knew
	late    int64  // bytes of DATA that may be on their way for those
	idle    time.Time
	goneMu  sync.Mutex // held while the functions given to Watch are called

	flow
	out
}

// ring remembers the last streams of which frames may still be on their way. Of those before, it
// knows the highest, and takes all up to that for such.
type ring struct {
	ids  [256]uint32
	at   uint8
	lost uint32
}

func (r *ring) add(id uint32) {
	r.lost = max(r.lost, r.ids[r.at])
	r.ids[r.at] = id
	r.at++
}

func (r *ring) has(id uint32) bool {
	for _, i := range r.ids {
		if i == id {
			return true
		}
	}
	return id <= r.lost
}

// remember notes a stream that we have closed, with so much left of its window; c.mu is held.
func (c *conn) remember(id uint32, window int64) {
	c.closed.add(id)
	c.late = min(c.late+max(0, window), max(c.recvTarget, c.recvWindow)) // no more can be on its way
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
	c.idle = time.Now()
	c.flow.init()
	c.out.init(c)
	c.base.SetPace(netio.Pace{Window: l.IdleTime, MinRate: l.MinRate})
}

// frameReader is what the Framer reads from.
type frameReader struct{ c *conn }

func (r frameReader) Read(p []byte) (int, error) {
	b, err := r.c.take(len(p))
	return copy(p, b), err
}

// take gives up to n bytes that have come, and waits for the first.
func (c *conn) take(n int) ([]byte, error) {
	if c.in.Len() == 0 {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	return c.in.Take(n), nil
}

// fill waits for more from the peer. All that came before has been worked on: streams that it began
// start now, and what there is to say leaves.
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
			if !c.pinged.IsZero() { // whatever came is a sign of life
				c.mu.Lock()
				c.pinged = time.Time{}
				c.mu.Unlock()
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := c.silence(time.Now()); err != nil {
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

// beforeWaiting is for what the reader does before it waits for the peer.
func (c *conn) beforeWaiting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controls.earn(c.earned, controlBudget)
	c.updates.earn(c.sent/bytesAnUpdate+c.earned, updatesSaved)
	c.earned, c.sent = 0, c.sent%bytesAnUpdate
	c.flushFromReader()
	if len(c.buf) > maxControlHeld && c.writing && c.controlHeld > maxControlHeld {
		return calm("the peer does not read what it asks for")
	}
	return nil
}

// interrupted is asked when somebody woke the reader: is the connection to end?
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

// deadline is how long to wait for the peer.
func (c *conn) deadline(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.settled:
		return c.idle.Add(c.limits.HeaderTime)
	case c.block.open:
		return c.block.began.Add(c.limits.HeaderTime)
	case !c.pinged.IsZero():
		return c.pinged.Add(c.limits.pingAnswer)
	case c.unused():
		return c.idle.Add(c.limits.IdleTime)
	}
	return now.Add(c.limits.pingEvery)
}

// unused says that nobody has a use for the connection; c.mu is held.
func (c *conn) unused() bool {
	if c.server != nil {
		return len(c.streams) == 0 && c.server.running == 0
	}
	return len(c.streams)+c.client.reserved == 0
}

// silence is asked at the deadline: is the connection at its end?
func (c *conn) silence(now time.Time) error {
	switch {
	case !c.settled, c.block.open:
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
		if now.Before(c.idle.Add(c.limits.IdleTime)) {
			return nil
		}
		if c.client != nil {
			c.client.goingAway = true // before somebody opens a stream that would end with it
		}
		return os.ErrDeadlineExceeded
	}
	c.pinged = now
	c.appendPing(false, [8]byte{pingAlive})
	c.flushFromReader()
	return nil
}

// read takes frames until the connection ends, and gives the reason.
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
			if err = c.badStream(stream.StreamID, stream.Code); err == nil {
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
	if !c.settled && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)) {
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
			return calm("more control frames than a connection has use for")
		}
		return c.control(h)
	}
	if !c.controls.take(1) {
		return calm("more unknown frames than a connection has use for")
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

// readHead takes the n bytes that a payload begins with.
func (c *conn) readHead(n int) ([]byte, error) {
	_, err := io.ReadFull(frameReader{c}, c.head[:n])
	return c.head[:n], err
}

// padding takes the length of the padding off the front of a payload of n bytes, and gives what is
// left to read before the padding.
func (c *conn) padding(h http2.FrameHeader, n int) (data, pad int, err error) {
	if !h.Flags.Has(http2.FlagDataPadded) { // the same bit for all frames that are padded
		return n, 0, nil
	}
	if n == 0 {
		return 0, 0, &ConnError{http2.ErrCodeFrameSize, "a padded frame without a length of its padding"}
	}
	b, err := c.readHead(1)
	if err != nil {
		return 0, 0, err
	}
	if pad = int(b[0]); pad > n-1 {
		return 0, 0, protocolError("more padding than payload")
	}
	return n - 1 - pad, pad, nil
}

// clientID says whether streams with this identifier are opened by clients, as all are here:
// servers push nothing.
func clientID(id uint32) bool { return id%2 == 1 }
