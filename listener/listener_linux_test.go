package listener

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

func TestOwnSockets(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	path := filepath.Join(t.TempDir(), "s")
	l := open(t, Options{
		Name:      "web",
		Addresses: []string{"127.0.0.1:0", "[::1]:0", "unix:" + path, fmt.Sprintf("unix:@mpgate-test-%d", os.Getpid())},
	}, nil)
	serve(t, l, sendAddress)
	want := []mptcp.Transport{mptcp.MPTCP, mptcp.MPTCP, mptcp.Unix, mptcp.Unix}
	for i, s := range l.Sockets() {
		if s.Transport != want[i] || s.Origin != Own || s.Listener != "web" || s.Why != "" {
			t.Errorf("socket %d: %+v", i, s)
		}
		if got := ask(t, s.Address); got != s.Address {
			t.Errorf("asked %s, answered by %q", s.Address, got)
		}
	}
}

func TestAcceptedAreNotWrapped(t *testing.T) {
	needMPTCP(t)
	path := filepath.Join(t.TempDir(), "s")
	l := open(t, Options{Addresses: []string{"127.0.0.1:0", "unix:" + path}, KeepAlive: 77 * time.Second}, nil)
	got := make(chan net.Conn, 1)
	serve(t, l, func(c net.Conn, _ *Socket) { got <- c })

	dial(t, l.Sockets()[0].Address)
	c, ok := (<-got).(*net.TCPConn)
	if !ok {
		t.Fatalf("got a %T", c)
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if tr, err := mptcp.TransportOf(rc); tr != mptcp.MPTCP || err != nil {
		t.Errorf("transport %q %v", tr, err)
	}
	rc.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_KEEPIDLE); v != 77 || err != nil {
			t.Errorf("keep-alive of the listening socket is not inherited: TCP_KEEPIDLE %d, %v", v, err)
		}
	})

	dial(t, l.Sockets()[1].Address)
	u := <-got
	if _, ok := u.(*net.UnixConn); !ok {
		t.Fatalf("got a %T", u)
	}
	u.Close()
}

func TestSeveralFamiliesAtOnePort(t *testing.T) {
	free, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	l := open(t, Options{Addresses: []string{fmt.Sprintf("0.0.0.0:%d", port), fmt.Sprintf("[::]:%d", port)}}, nil)
	serve(t, l, sendAddress)
	if got, want := ask(t, fmt.Sprintf("127.0.0.1:%d", port)), fmt.Sprintf("0.0.0.0:%d", port); got != want {
		t.Errorf("IPv4 answered by %q", got)
	}
	if got, want := ask(t, fmt.Sprintf("[::1]:%d", port)), fmt.Sprintf("[::]:%d", port); got != want {
		t.Errorf("IPv6 answered by %q", got)
	}

	both := open(t, Options{Addresses: []string{":0"}}, nil)
	serve(t, both, sendAddress)
	p := netip.MustParseAddrPort(both.Sockets()[0].Address).Port()
	for _, a := range []string{"127.0.0.1", "[::1]"} {
		if got := ask(t, fmt.Sprintf("%s:%d", a, p)); got != both.Sockets()[0].Address {
			t.Errorf("dual stack by %s: %q", a, got)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	noFDLeak(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, strings.Repeat("x", 100))
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, `listener "web": no address and no systemd name; remedy: address = "host:port" or systemd = "NAME"`},
		{Options{Addresses: []string{"127.0.0.1:0", busy.Addr().String()}},
			`listener "web": cannot listen on ` + busy.Addr().String() + `: bind: address already in use; remedy: find the program that uses it (ss -ltnp) and stop it, or use another address`},
		{Options{Addresses: []string{"192.0.2.1:80"}},
			`listener "web": cannot listen on 192.0.2.1:80: bind: cannot assign requested address; remedy: use an address of this host (ip address), or 0.0.0.0 or [::]`},
		{Options{Addresses: []string{"127.0.0.1"}}, `listener "web": cannot listen on 127.0.0.1: address 127.0.0.1: missing port in address`},
		{Options{Addresses: []string{"127.0.0.1:0"}, Interface: "no-such-dev"},
			`listener "web": cannot listen on 127.0.0.1:0: cannot bind to device "no-such-dev": setsockopt: no such device; remedy: use a device of this host (ip link)`},
		{Options{Addresses: []string{"unix:"}}, `listener "web": unix: needs a path (got "unix:"); remedy: unix:/run/mpgate/NAME.sock`},
		{Options{Addresses: []string{"unix:" + long}},
			fmt.Sprintf(`listener "web": the path of a unix socket must not exceed 107 bytes (got %d: %q); remedy: use a shorter one`, len(long), long)},
		{Options{Addresses: []string{"unix:" + file}}, `listener "web": ` + file + ` exists and is not a socket; remedy: remove it, or use another path`},
		{Options{Addresses: []string{"unix:" + dir + "/none/s"}},
			`listener "web": cannot listen on unix:` + dir + `/none/s: bind: no such file or directory; remedy: create the directory (RuntimeDirectory= in the unit)`},
		{Options{Addresses: []string{"unix:" + dir + "/s"}, MPTCP: mptcp.Require},
			`listener "web": unix:` + dir + `/s is a unix socket, and mptcp = "require"; remedy: mptcp = "off" for a listener of its own`},
		{Options{Systemd: "web"},
			`listener "web": no inherited socket is named "web"; no socket was inherited; remedy: FileDescriptorName=web in the .socket unit, and start mpgate by that unit; or give the listener an address too`},
	} {
		c.o.Name = "web"
		l, err := Open(context.Background(), c.o, nil)
		if err == nil {
			l.Close()
			t.Errorf("%+v: no error", c.o)
			continue
		}
		if err.Error() != c.want {
			t.Errorf("got  %q\nwant %q", err, c.want)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "keep me" {
		t.Error("the file that is no socket was touched")
	}
}

func TestUnixMode(t *testing.T) {
	old := syscall.Umask(0o077) // narrower than asked: must be made good
	defer syscall.Umask(old)
	dir := t.TempDir()
	for mode, want := range map[os.FileMode]os.FileMode{0: 0o660, 0o600: 0o600, 0o666: 0o666, 0o770: 0o770} {
		path := filepath.Join(dir, fmt.Sprintf("%o", mode))
		l := open(t, Options{Addresses: []string{"unix:" + path}, FileMode: mode}, nil)
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("mode %o: the socket has %o", want, st.Mode().Perm())
		}
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	}
}

// With no umask the file must have its mode at the moment it is made: a change
// of mode afterwards would show that it was wider before.
func TestUnixModeNeverWider(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_ATTRIB); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	open(t, Options{Addresses: []string{"unix:" + path}, FileMode: 0o600}, nil)
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	var masks []uint32
	for b = b[:n]; len(b) >= unix.SizeofInotifyEvent; {
		masks = append(masks, binary.NativeEndian.Uint32(b[4:]))
		b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
	}
	if len(masks) != 1 || masks[0] != unix.IN_CREATE {
		t.Errorf("events %x, want the creation alone", masks)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
}

func TestUnixStale(t *testing.T) {
	noFDLeak(t)
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	o := Options{Name: "web", Addresses: []string{"unix:" + path}}
	l := open(t, o, nil)
	_, err = Open(context.Background(), o, nil)
	want := `listener "web": another process listens on unix:` + path + `: address already in use; remedy: stop it (ss -lxp shows which), or use another path`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	// One that another has put in our place is not removed with ours.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next := open(t, o, nil)
	serve(t, next, sendAddress)
	l.Close()
	if got := ask(t, "unix:"+path); got != "unix:"+path {
		t.Errorf("answer %q", got)
	}
}

func TestUnixRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := open(t, Options{Addresses: []string{"unix:" + path}}, nil)
	l.Release()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket is gone: %v", err)
	}
}

// Serve ends with its context, keeps the sockets and may begin again: a
// connection that came between is served then.
func TestServeAgain(t *testing.T) {
	noFDLeak(t)
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")}}, nil)
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- l.Serve(ctx, sendAddress) }()
		for _, s := range l.Sockets() {
			ask(t, s.Address)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	queued := dial(t, l.Sockets()[0].Address)
	serve(t, l, sendAddress)
	b := make([]byte, 64)
	queued.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := queued.Read(b); err != nil || string(b[:n]) != l.Sockets()[0].Address {
		t.Errorf("the queued connection: %q %v", b[:n], err)
	}
}

func TestServeEndsWithClose(t *testing.T) {
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0"}}, nil)
	done := make(chan error, 1)
	go func() { done <- l.Serve(context.Background(), sendAddress) }()
	ask(t, l.Sockets()[0].Address)
	if err := l.Serve(context.Background(), sendAddress); err == nil || err.Error() != `listener "web" is already served` {
		t.Errorf("a second Serve: %v", err)
	}
	l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := l.Serve(context.Background(), sendAddress); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
}

// What (*Listener).Files hands out keeps listening after Close, and did not
// make our own sockets block.
func TestFiles(t *testing.T) {
	noFDLeak(t)
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0"}}, nil)
	address := l.Sockets()[0].Address
	files, err := l.Files()
	if err != nil {
		t.Fatal(err)
	}
	if files[0].Name() != "web" {
		t.Errorf("file is named %q", files[0].Name())
	}
	flags, err := unix.FcntlInt(files[0].Fd(), unix.F_GETFL, 0) // as os/exec would
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the socket blocks: %x %v", flags, err)
	}
	in := new(Inherited)
	in.Add("web", files[0], Parent)
	next := open(t, Options{Name: "web", Systemd: "web"}, in)
	l.Close()
	serve(t, next, sendAddress)
	if got := ask(t, address); got != address {
		t.Errorf("answer %q", got)
	}
	if s := next.Sockets()[0]; s.Origin != Parent {
		t.Errorf("origin %v", s.Origin)
	}
}
