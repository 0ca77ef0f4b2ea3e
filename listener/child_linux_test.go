package listener

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// child is main of the re-executed test binary. It prints one JSON report, and
// ends when its standard input does.
func child(role string) int {
	switch role {
	case "activation":
		return childActivation()
	case "emfile":
		return childEMFILE()
	}
	fmt.Fprintln(os.Stderr, "unknown role", role)
	return 2
}

type report struct {
	Sockets []SocketInfo
	Errors  []string
	Environ []string // what is left of LISTEN_*
}

func childActivation() int {
	var want []Options
	if err := json.Unmarshal([]byte(os.Getenv("LISTENER_TEST_OPTIONS")), &want); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var r report
	in, err := FromSystemd()
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
	}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "LISTEN_") {
			r.Environ = append(r.Environ, e)
		}
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for _, o := range want {
		l, err := Open(ctx, o, in)
		if err != nil {
			r.Errors = append(r.Errors, err.Error())
			continue
		}
		defer l.Close()
		r.Sockets = append(r.Sockets, l.Sockets()...)
		wg.Go(func() { l.Serve(ctx, sendAddress) })
	}
	if err := in.CheckUnused(); err != nil {
		r.Errors = append(r.Errors, err.Error())
	}
	json.NewEncoder(os.Stdout).Encode(r)
	io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	return 0
}

// childEMFILE listens, uses up its descriptors, and frees them at a line on stdin.
func childEMFILE() int {
	lim := unix.Rlimit{Cur: 40, Max: 40}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var failed atomic.Uint64
	l, err := Open(context.Background(), Options{
		Name: "web", Addresses: []string{"127.0.0.1:0"}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Failed: func() { failed.Add(1) },
	}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var hoard []*os.File
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, sendAddress) }()
	json.NewEncoder(os.Stdout).Encode(report{Sockets: l.Sockets()})
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n')
	for _, f := range hoard {
		f.Close()
	}
	io.Copy(io.Discard, in)
	cancel()
	<-done
	fmt.Println(failed.Load())
	l.Close()
	return 0
}

// A process is a running child.
type process struct {
	*exec.Cmd
	report
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *logBuffer
}

// start runs the test binary again with those files as descriptors 3, 4 …, and
// reads its report.
func start(t *testing.T, role string, files []*os.File, env ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// As systemd does it, LISTEN_PID is that of the process itself.
	p := &process{Cmd: exec.Command("/bin/sh", "-c", `${WITH_PID+export LISTEN_PID=$$}; exec "$0"`, exe), stderr: new(logBuffer)}
	p.Env = append(os.Environ(), "LISTENER_TEST_CHILD="+role)
	p.Env = append(p.Env, env...)
	p.ExtraFiles = files
	p.Stderr = p.stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t) })
	line, err := p.stdout.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.report)
	}
	if err != nil {
		t.Fatalf("no report from the child: %v\n%s", err, p.stderr.all())
	}
	return p
}

func (p *process) end(t *testing.T) {
	if p.ProcessState != nil {
		return
	}
	p.stdin.Close()
	timer := time.AfterFunc(20*time.Second, func() { p.Process.Kill() })
	defer timer.Stop()
	if err := p.Wait(); err != nil {
		t.Errorf("child: %v\n%s", err, p.stderr.all())
	}
}

// passed makes listening sockets to pass on, as systemd would.
func passed(t *testing.T, address string, m mptcp.Mode) (*os.File, string) {
	t.Helper()
	var f *os.File
	var err error
	if path, ok := cutUnix(address); ok {
		l, e := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if e != nil {
			t.Fatal(e)
		}
		l.SetUnlinkOnClose(false)
		f, err = l.File()
		l.Close()
	} else {
		l, _, e := mptcp.Listen(context.Background(), address, mptcp.ListenOptions{Mode: m})
		if e != nil {
			t.Fatal(e)
		}
		address = l.Addr().String()
		f, err = l.File()
		l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, address
}

func activate(t *testing.T, names string, files []*os.File, want ...Options) *process {
	t.Helper()
	opts, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, "activation", files, "WITH_PID=", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+names,
		"LISTENER_TEST_OPTIONS="+string(opts))
}

func TestActivation(t *testing.T) {
	needMPTCP(t)
	web1, a1 := passed(t, "127.0.0.1:0", mptcp.Require)
	web2, a2 := passed(t, "[::1]:0", mptcp.Require)
	plain, a3 := passed(t, "127.0.0.1:0", mptcp.Off)
	sock, a4 := passed(t, "unix:"+t.TempDir()+"/s", mptcp.Off)
	p := activate(t, "web:web:plain:sock", []*os.File{web1, web2, plain, sock},
		Options{Name: "l-web", Systemd: "web", MPTCP: mptcp.Require, Addresses: []string{"127.0.0.1:1"}},
		Options{Name: "l-plain", Systemd: "plain"},
		Options{Name: "l-off", Systemd: "sock", MPTCP: mptcp.Off})
	const remedy = "SocketProtocol=mptcp in the .socket unit (systemd 257 or later; older ones ignore the line), then restart the socket"
	want := []SocketInfo{
		{Listener: "l-web", Address: a1, Transport: mptcp.MPTCP, Origin: Systemd},
		{Listener: "l-web", Address: a2, Transport: mptcp.MPTCP, Origin: Systemd},
		{Listener: "l-plain", Address: a3, Transport: mptcp.TCP, Origin: Systemd, Why: "the socket that was passed is TCP", Remedy: remedy},
		{Listener: "l-off", Address: a4, Transport: mptcp.Unix, Origin: Systemd},
	}
	if !slices.Equal(p.Sockets, want) {
		t.Errorf("sockets\n got %+v\nwant %+v", p.Sockets, want)
	}
	if len(p.Errors) > 0 || len(p.report.Environ) > 0 {
		t.Errorf("errors %q, environment %q", p.Errors, p.report.Environ)
	}
	for _, s := range p.Sockets {
		if got := ask(t, s.Address); got != s.Address {
			t.Errorf("asked %s, answered by %q", s.Address, got)
		}
	}
	p.end(t)
	// As an inherited socket is systemd's, it still listens and is not unlinked.
	dial(t, a4)
}

func TestActivationErrors(t *testing.T) {
	needMPTCP(t)
	tcp, tcpAddr := passed(t, "127.0.0.1:0", mptcp.Off)
	mp, mpAddr := passed(t, "127.0.0.1:0", mptcp.Require)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udpFile, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer udpFile.Close()
	conn := dial(t, tcpAddr).(*net.TCPConn)
	connFile, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer connFile.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()

	p := activate(t, "tcp:mp:udp:conn:null:left", []*os.File{tcp, mp, udpFile, connFile, null, mp},
		Options{Name: "1", Systemd: "tcp", MPTCP: mptcp.Require},
		Options{Name: "2", Systemd: "none", Addresses: []string{"127.0.0.1:0"}},
		Options{Name: "3", Systemd: "udp"},
		Options{Name: "4", Systemd: "conn"},
		Options{Name: "5", Systemd: "null"},
		Options{Name: "6", Systemd: "mp", MPTCP: mptcp.Off},
	)
	want := []string{
		`listener "1": inherited socket "tcp" (` + tcpAddr + `) is TCP, and mptcp = "require"; remedy: SocketProtocol=mptcp in the .socket unit (systemd 257 or later; older ones ignore the line), then restart the socket`,
		`listener "2": no inherited socket is named "none" (there are "conn", "left", "mp", "null", "tcp", "udp"); remedy: FileDescriptorName=none in the .socket unit`,
		`listener "3": inherited socket "udp" (` + udp.LocalAddr().String() + `) is not a stream socket; remedy: ListenStream= in the .socket unit, not ListenDatagram= or ListenSequentialPacket=`,
		`listener "4": inherited socket "conn" (` + conn.LocalAddr().String() + `) does not listen; remedy: Accept=no in the .socket unit (one socket for all connections)`,
		`listener "5": inherited fd "null" is not a socket: getsockopt SO_TYPE: socket operation on non-socket; remedy: pass listening sockets only (ListenStream=)`,
		`systemd passed sockets that no listener uses: "left" (` + mpAddr + `, mptcp); remedy: add systemd = "NAME" to a listener, or remove the .socket unit (systemctl disable --now)`,
	}
	if !slices.Equal(p.Errors, want) {
		t.Errorf("errors\n got %s\nwant %s", strings.Join(p.Errors, "\n     "), strings.Join(want, "\n     "))
	}
	wantSockets := []SocketInfo{{Listener: "6", Address: mpAddr, Transport: mptcp.MPTCP, Origin: Systemd,
		Why:    "the socket that was passed is MPTCP and mpgate cannot change that",
		Remedy: "remove SocketProtocol=mptcp from the .socket unit and restart the socket; with the units of mpgate units --pair no restart is needed"}}
	if !slices.Equal(p.Sockets, wantSockets) {
		t.Errorf("sockets\n got %+v\nwant %+v", p.Sockets, wantSockets)
	}
}

func TestActivationAbsent(t *testing.T) {
	o := `[{"Name":"web","Systemd":"web","Addresses":["127.0.0.1:0"]}]`
	// Nothing inherited: the address counts.
	p := start(t, "activation", nil, "LISTENER_TEST_OPTIONS="+o)
	if len(p.Errors) > 0 || len(p.Sockets) != 1 || p.Sockets[0].Origin != Own {
		t.Errorf("%+v", p.report)
	}
	// Meant for another process.
	p = start(t, "activation", nil, "LISTEN_FDS=1", "LISTEN_PID=1", `LISTENER_TEST_OPTIONS=[{"Name":"web","Systemd":"web"}]`)
	want := fmt.Sprintf(`listener "web": no inherited socket is named "web": LISTEN_FDS=1 is set for process "1", and this one is %d: `+
		`a wrapper between systemd and mpgate must start it with exec; remedy: start mpgate directly from the unit, or with exec`, p.Process.Pid)
	if len(p.Errors) != 1 || p.Errors[0] != want || len(p.report.Environ) != 0 {
		t.Errorf("got %q %q\nwant %q", p.Errors, p.report.Environ, want)
	}
	p = start(t, "activation", nil, "LISTEN_FDS=many", "LISTENER_TEST_OPTIONS=[]")
	want = `LISTEN_FDS is not a number of sockets (got "many"); remedy: let only systemd set it, or unset it`
	if len(p.Errors) != 1 || p.Errors[0] != want {
		t.Errorf("got %q\nwant %q", p.Errors, want)
	}
}

func TestNewInherited(t *testing.T) {
	noFDLeak(t)
	a, address := passed(t, "127.0.0.1:0", mptcp.Off)
	b, _ := passed(t, "127.0.0.1:0", mptcp.Off)
	in := NewInherited(map[string][]*os.File{"a": {a}, "b": {b}})
	if got := in.Names(); !slices.Equal(got, []string{"a", "b"}) || in.Len() != 2 {
		t.Errorf("names %q", got)
	}
	l := open(t, Options{Systemd: "a", MPTCP: mptcp.Off}, in)
	serve(t, l, sendAddress)
	if got := ask(t, address); got != address {
		t.Errorf("answer %q", got)
	}
	if got := in.Unused(); len(got) != 1 || !strings.HasPrefix(got[0], `"b" (`) {
		t.Errorf("unused %q", got)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := in.CheckUnused(); err != nil {
		t.Error(err)
	}
}

func TestInheritedOptions(t *testing.T) {
	needMPTCP(t)
	f, address := passed(t, "127.0.0.1:0", mptcp.Require)
	in := NewInherited(map[string][]*os.File{"a": {f}})
	_, err := Open(context.Background(), Options{Name: "web", Systemd: "a", Interface: "lo"}, in)
	want := `listener "web": inherited socket "a" (` + address + `) is bound to device "", and interface = "lo"; remedy: BindToDevice=lo in the .socket unit`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}

	bound, _, err := mptcp.Listen(context.Background(), "127.0.0.1:0", mptcp.ListenOptions{Interface: "lo"})
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	if f, err = bound.File(); err != nil {
		t.Fatal(err)
	}
	for d, idle := range map[time.Duration]int{0: 15, 44 * time.Second: 44} {
		dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		in := NewInherited(map[string][]*os.File{"a": {os.NewFile(uintptr(dup), "a")}})
		l := open(t, Options{Systemd: "a", Interface: "lo", KeepAlive: d}, in)
		got := make(chan net.Conn, 1)
		serve(t, l, func(c net.Conn, _ *Socket) { got <- c })
		dial(t, bound.Addr().String())
		c := (<-got).(*net.TCPConn)
		rc, _ := c.SyscallConn()
		rc.Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_KEEPIDLE); v != idle || err != nil {
				t.Errorf("keep-alive %v: TCP_KEEPIDLE %d, %v", d, v, err)
			}
		})
		c.Close()
		l.Close()
	}
	f.Close()
}

// Without descriptors accepting fails, says so once a second at most, does not
// spin, and continues as soon as there are some.
func TestAcceptRecoversFromEMFILE(t *testing.T) {
	p := start(t, "emfile", nil)
	address := p.Sockets[0].Address
	c := dial(t, address) // by the kernel
	deadline := time.Now().Add(10 * time.Second)
	for len(p.stderr.all()) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the child says nothing of its failing accepts")
		}
		// Nothing to wait for but the child's line.
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("served without descriptors")
		}
	}
	if line := p.stderr.all()[0]; !strings.Contains(line, "too many open files") || !strings.Contains(line, "accept failed") ||
		!strings.Contains(line, "listener=web") || !strings.Contains(line, "address="+address) {
		t.Errorf("log: %s", line)
	}
	// Two more failures in the second that follows: the pauses double.
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("served without descriptors")
	}
	if n := len(p.stderr.all()); n > 2 {
		t.Errorf("%d lines in half a second: %s", n, p.stderr.all())
	}
	io.WriteString(p.stdin, "free\n")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil || string(b) != address {
		t.Errorf("after recovery: %q %v", b, err)
	}
	if got := ask(t, address); got != address {
		t.Errorf("the next one: %q", got)
	}
	p.stdin.Close()
	line, _ := p.stdout.ReadString('\n')
	var n int
	if fmt.Sscan(line, &n); n < 2 || n > 50 {
		t.Errorf("%d failed accepts in about a second", n)
	}
	p.end(t)
}

func TestBackoff(t *testing.T) {
	var b backoff
	emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	var got []time.Duration
	for range 10 {
		got = append(got, b.next(emfile))
	}
	ms := time.Millisecond
	want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, time.Second, time.Second}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	b = backoff{}
	for _, e := range []syscall.Errno{syscall.ECONNABORTED, syscall.EPERM, syscall.ENETDOWN, syscall.EPROTO, syscall.EHOSTUNREACH} {
		if d := b.next(os.NewSyscallError("accept4", e)); d != 0 {
			t.Errorf("%v: pause %v", e, d)
		}
	}
	for range maxInRow {
		b.next(syscall.ECONNABORTED)
	}
	if d := b.next(syscall.ECONNABORTED); d == 0 {
		t.Error("an error that never ends is never paused for")
	}
}
