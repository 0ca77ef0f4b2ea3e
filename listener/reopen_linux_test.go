package listener

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

func TestReopenKeepsWhatWaits(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	a, b, c := proxytest.FreeAddress(t), proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	path := "unix:" + filepath.Join(t.TempDir(), "s")
	old := open(t, Options{Name: "web", Addresses: []string{a, path, b}}, nil)
	waiting := []net.Conn{dial(t, a), dial(t, path)}

	o := Options{Name: "web", Addresses: []string{c, path, a}}
	next, err := Reopen(t.Context(), o, nil, old)
	if err != nil {
		t.Fatal(err)
	}
	old.Yield(next)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, next, sendAddress)
	for i, want := range []string{a, path} {
		_ = waiting[i].SetDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(waiting[i])
		if err != nil || string(got) != want {
			t.Errorf("a connection that waited at %s got %q, %v", want, got, err)
		}
	}
	for _, address := range []string{a, path, c} {
		if got := ask(t, address); got != address {
			t.Errorf("%s answers as %q", address, got)
		}
	}
	if c, err := net.Dial("tcp", b); err == nil {
		c.Close()
		t.Errorf("%s, which the new options do not have, is still open", b)
	}
	next.Close()
	if _, err := os.Lstat(strings.TrimPrefix(path, "unix:")); !os.IsNotExist(err) {
		t.Errorf("the unix socket is not removed in the end: %v", err)
	}
}

func TestReopenRefused(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	a := proxytest.FreeAddress(t)
	path := "unix:" + filepath.Join(t.TempDir(), "s")
	old := open(t, Options{Name: "web", Addresses: []string{a, path}}, nil)
	serve(t, old, sendAddress)
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Interface = "lo" },
			`listener "web": ` + a + ` is open on interface "", and a reload cannot change that to "lo"; remedy: restart mpgate (systemctl restart mpgate), or open another port for it`},
		{func(o *Options) { o.FileMode = 0o600 },
			`listener "web": ` + path + ` is open with mode 0660, and a reload cannot change that to 0600; remedy: restart mpgate (systemctl restart mpgate), or use another path`},
	} {
		o := old.o
		c.change(&o)
		next, err := Reopen(t.Context(), o, nil, old)
		if err == nil {
			next.Close()
			t.Errorf("no error; want %s", c.want)
			continue
		}
		if err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		for _, address := range []string{a, path} {
			if got := ask(t, address); got != address {
				t.Errorf("after a refused change %s answers as %q", address, got)
			}
		}
	}
}

func TestReopenInherited(t *testing.T) {
	noFDLeak(t)
	f, address := passed(t, "127.0.0.1:0", mptcp.Off)
	in := NewInherited(map[string][]*os.File{"web": {f}})
	old := open(t, Options{Name: "web", Systemd: "web", MPTCP: mptcp.Off}, in)
	next, err := Reopen(t.Context(), Options{Name: "web", Systemd: "web", MPTCP: mptcp.Require}, in, old)
	if err == nil {
		next.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `is TCP, and mptcp = "require"`) {
		t.Errorf("a TCP socket where MPTCP is required: %v", err)
	}
	next, err = Reopen(t.Context(), Options{Name: "web", Systemd: "web", MPTCP: mptcp.Prefer}, in, old)
	if err != nil {
		t.Fatal(err)
	}
	old.Yield(next)
	old.Close()
	if s := next.Sockets()[0]; s.Why != "the socket that was passed is TCP" || s.Origin != Systemd {
		t.Errorf("after the change: %+v", s)
	}
	if err := next.GiveBack(in); err != nil {
		t.Fatal(err)
	}
	next.Close()
	again := open(t, Options{Name: "again", Systemd: "web", MPTCP: mptcp.Off}, in)
	serve(t, again, sendAddress)
	if got := ask(t, address); got != address {
		t.Errorf("a socket that was given back answers as %q", got)
	}
}

func TestSpares(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	path := "unix:" + filepath.Join(t.TempDir(), "s")
	a, b, all := proxytest.FreeAddress(t), proxytest.FreeAddress(t), ":"+port(proxytest.FreeAddress(t))
	addresses := []string{a, path, all}
	first := open(t, Options{Name: "first", Addresses: addresses}, nil)
	tcp := open(t, Options{Name: "tcp", Addresses: []string{b}, MPTCP: mptcp.Off}, nil)
	in := new(Inherited)
	files, err := first.Files()
	if err != nil {
		t.Fatal(err)
	}
	other, err := tcp.Files()
	if err != nil {
		t.Fatal(err)
	}
	var inodes []uint64
	for i, f := range append(files, other...) {
		inodes = append(inodes, Inode(f))
		in.AddSpare("mpgate-"+string(rune('0'+i)), f, Store)
	}
	waiting := []net.Conn{dial(t, a), dial(t, path)}
	first.Release()
	tcp.Close()
	if in.Len() != 0 || in.CheckUnused() != nil {
		t.Errorf("spares count as passed sockets: %d, %v", in.Len(), in.CheckUnused())
	}
	var dropped []Spare
	in.OnDrop = func(s Spare) { dropped = append(dropped, s) }
	second := open(t, Options{Name: "second", Addresses: append(addresses, b)}, in)
	want := []struct {
		origin    Origin
		transport mptcp.Transport
	}{{Store, mptcp.MPTCP}, {Store, mptcp.Unix}, {Store, mptcp.MPTCP}, {Own, mptcp.MPTCP}}
	for i, s := range second.Sockets() {
		if s.Origin != want[i].origin || s.Transport != want[i].transport || s.Why != "" {
			t.Errorf("socket %d: %+v", i, s)
		}
	}
	if len(dropped) != 1 || dropped[0].Name != "mpgate-3" || dropped[0].Inode != inodes[3] ||
		dropped[0].Why != "it is a tcp socket, but mptcp is configured" {
		t.Errorf("dropped: %+v", dropped)
	}
	serve(t, second, sendAddress)
	for i, c := range waiting {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if got, err := io.ReadAll(c); err != nil || string(got) != addresses[i] {
			t.Errorf("a connection that waited at %s got %q, %v", addresses[i], got, err)
		}
	}
	second.Close()
	if _, err := os.Lstat(strings.TrimPrefix(path, "unix:")); !os.IsNotExist(err) {
		t.Errorf("the unix socket is not removed in the end: %v", err)
	}
}

// TestSpareInTheWay: what an earlier process bound to one address does not keep the next from all
// of them.
func TestSpareInTheWay(t *testing.T) {
	noFDLeak(t)
	f, address := passed(t, "127.0.0.1:0", mptcp.Off)
	in := new(Inherited)
	in.AddSpare("mpgate-7", f, Store)
	kept, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var dropped []Spare
	in.OnDrop = func(s Spare) {
		dropped = append(dropped, s)
		// As systemd does, which closes its own in the background.
		time.AfterFunc(20*time.Millisecond, func() { unix.Close(kept) })
	}
	all := ":" + port(address)
	l := open(t, Options{Name: "web", Addresses: []string{all}, MPTCP: mptcp.Off}, in)
	if s := l.Sockets()[0]; s.Origin != Own {
		t.Errorf("%+v", s)
	}
	if len(dropped) != 1 || dropped[0].Name != "mpgate-7" || dropped[0].Why != "it conflicts with "+all {
		t.Errorf("dropped: %+v", dropped)
	}
}

// TestParentInTheWay: the process that is to be replaced continues, so its sockets stay.
func TestParentInTheWay(t *testing.T) {
	noFDLeak(t)
	f, address := passed(t, "127.0.0.1:0", mptcp.Off)
	in := new(Inherited)
	in.AddSpare("", f, Parent)
	defer in.Close()
	_, err := Open(t.Context(), Options{Name: "web", Addresses: []string{":" + port(address)}, MPTCP: mptcp.Off}, in)
	want := `listener "web": cannot listen on :` + port(address) + `, which is used by the process that this one replaces: bind: address already in use; ` +
		`remedy: restart mpgate instead (systemctl restart mpgate)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", ":80", true},
		{"[::]:80", "127.0.0.1:80", true},
		{"localhost:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{":80", ":81", false},
		{":0", ":0", false},
		{"unix:/a", "unix:/a", true},
		{"unix:/a", ":80", false},
	} {
		if overlaps(c.a, c.b) != c.want || overlaps(c.b, c.a) != c.want {
			t.Errorf("%s and %s: want %t", c.a, c.b, c.want)
		}
	}
}

func TestUnusedSpares(t *testing.T) {
	noFDLeak(t)
	f, address := passed(t, "127.0.0.1:0", mptcp.Off)
	six := open(t, Options{Name: "six", Addresses: []string{"[::]:0"}, MPTCP: mptcp.Off}, nil)
	files, err := six.Files()
	if err != nil {
		t.Fatal(err)
	}
	dual := ":" + port(six.Sockets()[0].Address)
	six.Close()
	in := new(Inherited)
	in.AddSpare("mpgate-7", f, Store)
	in.AddSpare("mpgate-8", files[0], Store)
	if in.takeSpare(t.Context(), &Options{}, dual) != nil {
		t.Error("a socket of IPv6 alone is taken for both")
	}
	got := in.CloseSpares()
	if len(got) != 2 || got[0].Name != "mpgate-7" || got[0].Address != address+", tcp" || got[0].Why != "" || got[1].Name != "mpgate-8" {
		t.Errorf("unused: %+v", got)
	}
	if len(in.CloseSpares()) != 0 {
		t.Error("they are closed twice")
	}
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

func TestProbe(t *testing.T) {
	gate := NewGate(1)
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0", "127.0.0.1:0"}, Gate: gate}, nil)
	over, end := context.WithCancel(t.Context())
	end()
	if err := l.Probe(over); err == nil || err.Error() != `listener "web": no accept loop is running` {
		t.Errorf("before Serve: %v", err)
	}
	stuck, release := make(chan struct{}, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(ctx, func(c net.Conn, _ *Socket) {
			stuck <- struct{}{}
			<-release // an accept loop that hangs
			c.Close()
		})
	}()
	probe := func(maxInRow time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), maxInRow)
		defer cancel()
		return l.Probe(ctx)
	}
	for range 100 {
		if err := probe(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	address := l.Sockets()[0].Address
	dial(t, address)
	<-stuck
	want := `listener "web": ` + address + `: the accept loop does not answer`
	if err := probe(50 * time.Millisecond); err == nil || err.Error() != want {
		t.Errorf("while a loop hangs: %v; want %s", err, want)
	}
	close(release)
	// Both loops now wait for the place in the gate, which nobody gives back: that is an answer.
	if err := probe(10 * time.Second); err != nil {
		t.Error(err)
	}
	gate.Leave()
	if err := probe(10 * time.Second); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestProbeUnderLoad: probes take no connection away, and connections no probe.
func TestProbeUnderLoad(t *testing.T) {
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0"}}, nil)
	serve(t, l, sendAddress)
	address := l.Sockets()[0].Address
	ctx, cancel := context.WithCancel(t.Context())
	probing := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := l.Probe(ctx); err != nil && ctx.Err() == nil {
				probing <- err
				return
			}
		}
		probing <- nil
	}()
	for range 500 {
		if got := ask(t, address); got != address {
			t.Fatalf("got %q", got)
		}
	}
	cancel()
	if err := <-probing; err != nil {
		t.Error(err)
	}
}
