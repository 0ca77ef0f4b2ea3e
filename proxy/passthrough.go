package proxy

import (
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
)

// helloStep is the number of new bytes after which a ClientHello is parsed again, so that one that
// comes byte by byte is not parsed for each.
const helloStep = 64

// passthrough reads the ClientHello into ahead. If its server name is passed through, it serves the
// connection and returns true.
func (c *conn) passthrough(v *view, ahead *netio.Buffer) (done bool, err error) {
	parsed := -helloStep
	for {
		if ahead.Len()-parsed >= helloStep || ahead.Len() > 0 && c.base.Idle() {
			parsed = ahead.Len()
			hello, n, err := preread.ParseHello(ahead.Bytes())
			if err == nil {
				r := v.Passthrough.Match([]byte(hello.ServerName), c.listener.name)
				if r == nil {
					return false, nil
				}
				c.serveRaw(v.passthroughMeters, r, &rawConn{conn: c, stream: c.base, ahead: ahead, hello: n, name: hello.ServerName})
				return true, nil
			}
			if err != preread.ErrMore {
				return false, nil // TLS or HTTP reports the error
			}
		}
		if err := c.base.Fill(ahead); err != nil {
			c.end = c.waitEnd(err)
			return false, err
		}
	}
}

// Passthroughs is a table of routes for connections that are forwarded unparsed.
type Passthroughs Routes

// NewPassthroughs builds the table. The hosts of a route are server names, none for all; it has no
// other conditions than these and the listener, and its Action is a TCP.
func NewPassthroughs(list []Route) (*Passthroughs, error) {
	r, err := NewRoutes(list)
	return (*Passthroughs)(r), err
}
