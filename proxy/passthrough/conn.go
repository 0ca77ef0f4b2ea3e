package passthrough

import (
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// conn is a plain connection as an End.
type conn struct {
	*netio.Conn
	in   netio.Buffer
	idle time.Duration
}

// Next gives what has arrived.
func (c *conn) Next(wait bool) ([]byte, error) {
	if c.in.Len() == 0 {
		if !wait {
			return nil, message.ErrWait
		}
		_ = c.SetReadDeadline(time.Now().Add(c.idle))
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
func (c *conn) Abort() { _ = c.Conn.Abort() }

// Relay is a Pump between two plain connections, which must be closed afterwards.
func Relay(client, server *netio.Conn, idle time.Duration) Result {
	c, s := &conn{Conn: client, idle: idle}, &conn{Conn: server, idle: idle}
	defer c.in.Release()
	defer s.in.Release()
	p := Pump{Client: c, Server: s, Idle: idle}
	return p.Run()
}
