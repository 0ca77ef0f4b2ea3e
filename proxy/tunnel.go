package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/passthrough"
	"mpgate/task"
	"mpgate/telemetry"
)

// tunnel forwards bytes in both directions after a 101, until both sides have ended theirs, or
// nothing has moved in either direction for the idle time.
func (x *exchange) tunnel() {
	// The client may break the new protocol, or begin it too early.
	x.statusOnly = true
	if !x.awaitUpload() {
		return
	}
	x.up.Tunnel()
	if err := x.sendHead(time.Now()); err != nil {
		var fault *message.Error
		if errors.As(err, &fault) { // the server's 101 cannot be sent to the client
			x.up.Abort()
			x.answer(serverAnswer(err))
			return
		}
		x.endResponse(nil, err)
		return
	}
	t := newTunnel(x)
	x.client.tunnels.add(t)
	defer x.down.Resume()
	defer x.client.tunnels.remove(t) // also after a panic
	result := t.pump.Run()
	x.client.tunnels.remove(t)
	x.rec.BytesIn += result.ToServer
	x.rec.BytesOut = result.ToClient
	x.rec.End = tunnelEnd(result)
	x.broken = result.Err != nil
	if t.closing.Load() {
		x.rec.End = telemetry.EndDrain
		x.broken = x.broken && !t.client.closeSent
	}
}

// tunnelEnd is the outcome of a tunnel or a connection that was passed through.
func tunnelEnd(r passthrough.Result) telemetry.End {
	switch {
	case r.Err == nil:
		return telemetry.EndOK
	case r.ByServer && !errors.Is(r.Err, os.ErrDeadlineExceeded): // silence is not one side's fault
		return serverAnswer(r.Err).End
	}
	return clientEnd(r.Err)
}

// tunnel is a pump between both sides of an exchange. That of a WebSocket can send close frames.
type tunnel struct {
	exchange       *exchange
	pump           passthrough.Pump
	client, server tunnelSide
	closing        atomic.Bool // see startClose
	closers        task.Group  // which send the close frames
}

func newTunnel(x *exchange) *tunnel {
	t := &tunnel{exchange: x}
	webSocket := message.EqualFold(x.req.Upgrade, "websocket")
	t.client.frameWriter = frameWriter{dst: x.down, webSocket: webSocket}
	t.server.frameWriter = frameWriter{dst: x.up, webSocket: webSocket, masked: true}
	t.client.BodyReader, t.client.abort = clientReader{x.down.Body(), t}, x.down.Interrupt
	t.server.BodyReader, t.server.abort = x.up.Body(), x.up.Abort
	t.pump = passthrough.Pump{Client: &t.client, Server: &t.server, Idle: x.backend.IdleTimeout()}
	return t
}

// tunnelSide is one side of an exchange as a passthrough.End.
type tunnelSide struct {
	message.BodyReader
	frameWriter
	abort func()
}

func (s *tunnelSide) Abort() { s.abort() }

// clientReader is the client's body. It ends when the client has answered a close frame.
type clientReader struct {
	message.BodyReader
	tunnel *tunnel
}

func (r clientReader) Next(wait bool) ([]byte, error) {
	if wait && r.tunnel.closing.Load() && r.tunnel.server.sawClose() {
		return nil, io.EOF
	}
	return r.BodyReader.Next(wait)
}
