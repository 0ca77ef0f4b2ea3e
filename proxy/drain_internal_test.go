package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"mpgate/proxy/netio"
)

// A request that arrives when its time has just passed is read, and is not lost with the
// connection.
func TestRequestAtTheEndOfTheWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, end := range map[string]struct {
		set  func(*netio.Conn)
		want error
	}{
		"interrupted": {(*netio.Conn).Interrupt, netio.ErrInterrupted},
		"deadline":    {func(b *netio.Conn) { _ = b.SetReadDeadline(time.Now().Add(-time.Second)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			base, err := netio.New(server)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(client, "POST")
			if err := base.WaitReadable(); err != nil {
				t.Fatal(err)
			}
			c := &conn{base: base}
			end.set(base)
			var b netio.Buffer
			defer b.Release()
			if err := base.Fill(&b); !errors.Is(err, end.want) || !c.awaitsArrived(err) {
				t.Fatalf("a read ends with %v, and nothing is said to have arrived", err)
			}
			base.ReadBy(time.Now().Add(arrivedTime))
			if err := base.Fill(&b); err != nil || string(b.Bytes()) != "POST" {
				t.Errorf("read %q, %v", b.Bytes(), err)
			}
			if c.awaitsArrived(os.ErrDeadlineExceeded) {
				t.Error("the wait is prolonged again")
			}
			if c = (&conn{base: base}); c.awaitsArrived(os.ErrDeadlineExceeded) {
				t.Error("the wait is prolonged for nothing")
			}
			if c.looked = false; c.awaitsArrived(io.EOF) {
				t.Error("the wait is prolonged after the end of the connection")
			}
		})
	}
}
