package passthrough

import (
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// conn is a connection as an End.
type conn struct {
	netio.Stream
	in   netio.Buffer
	idle time.Duration
}

// Next gives what has arrived.
func (c *conn) Next(wait bool) ([]byte, error) {
	if c.in.Len() == 0 {
		if !wait {
			return nil, message.ErrWait
		}
		_ = c.Base().SetReadDeadline(time.Now().Add(c.idle))
		if err := c.Fill(&c.in); err != nil {
			c.in.Release() // this direction may have ended long before the other one
			return nil, err
		}
	}
	return c.in.Take(c.in.Len()), nil
}

// WriteBody holds or sends b.
func (c *conn) WriteBody(b []byte) error {
	_, err := c.Write(b)
	return err
}

// End sends what is held, then a FIN.
func (c *conn) End(*message.Header) error { return c.CloseWrite() }

// Abort closes the connection.
func (c *conn) Abort() { _ = c.Base().Abort() }

// Relay is a Pump between two connections, which must be closed afterwards. What was read of the
// client already is in ahead, which it empties; nil is nothing.
func Relay(client netio.Stream, ahead *netio.Buffer, server netio.Stream, idle time.Duration) Result {
	c, s := &conn{Stream: client, idle: idle}, &conn{Stream: server, idle: idle}
	if ahead != nil {
		c.in, *ahead = *ahead, netio.Buffer{}
	}
	defer c.in.Release()
	defer s.in.Release()
	p := Pump{Client: c, Server: s, Idle: idle}
	return p.Run()
}
