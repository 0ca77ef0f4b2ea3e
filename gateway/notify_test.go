package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/listener"
	"mpgate/mptcp"
)

// manager is what systemd is to a service: it hears its notices and keeps its descriptors.
type manager struct {
	t      *testing.T
	conn   *net.UnixConn
	path   string
	stored map[string]*os.File
}

func newManager(t *testing.T) *manager {
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify"), stored: map[string]*os.File{}}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.conn.Close()
		for _, f := range m.stored {
			f.Close()
		}
	})
	return m
}

// notifier returns a notifier that sends to m.
func (m *manager) notifier(watchdog time.Duration, store int) *Notifier {
	n, err := NewNotifier(m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(n.Close)
	n.Watchdog, n.Store = watchdog, store
	return n
}

// next reads a notice and does what systemd does about it; "" when none comes in time.
func (m *manager) next(within time.Duration) string {
	m.t.Helper()
	buf, oob := make([]byte, 8192), make([]byte, 256)
	_ = m.conn.SetReadDeadline(time.Now().Add(within))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return ""
	}
	var files []*os.File
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range messages {
		fds, err := syscall.ParseUnixRights(&c)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, fd := range fds {
			_ = syscall.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	text := string(buf[:n])
	_, name, _ := strings.Cut(text, "FDNAME=")
	switch {
	case strings.HasPrefix(text, "FDSTORE=1"):
		m.stored[name] = files[0]
	case strings.HasPrefix(text, "FDSTOREREMOVE=1"):
		if f := m.stored[name]; f != nil {
			f.Close()
			delete(m.stored, name)
		}
	case text == "BARRIER=1":
		files[0].Close()
	}
	return text
}

// await reads notices until one begins like that.
func (m *manager) await(prefix string) string {
	m.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if text := m.next(time.Until(end)); strings.HasPrefix(text, prefix) {
			return text
		}
	}
	m.t.Fatalf("no notice %q", prefix)
	return ""
}

func TestNotices(t *testing.T) {
	m := newManager(t)
	web := proxytest.FreeAddress(t)
	rest := listenerTable("web", web, "mptcp = \"off\"") + routeTable("all", "", "app") + backendTable("app", "127.0.0.1:1", "")
	r := startRig(t, head+rest, func(o *Options) { o.Notifier = m.notifier(0, 0) })
	if got, want := m.next(patience), "READY=1\nSTATUS=serving: generation 1, sockets: 1 (MPTCP: 0), connections: 0"; got != want {
		t.Errorf("at the start %q, want %q", got, want)
	}
	r.swap(head + rest)
	if got := m.next(patience); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("before a reload %q", got)
	}
	if got, want := m.next(patience), "READY=1\nSTATUS=serving: generation 2, sockets: 1 (MPTCP: 0), connections: 0"; got != want {
		t.Errorf("after a reload %q, want %q", got, want)
	}
	r.write("nonsense")
	if r.Reload(t.Context()) == nil {
		t.Error("nonsense is accepted")
	}
	m.await("RELOADING=1")
	if got := m.next(patience); !strings.HasPrefix(got, "READY=1\n") || !strings.HasSuffix(got, "; the last reload failed, see the log") {
		t.Errorf("after a refused reload %q", got)
	}
	r.end()
	if got := m.next(patience); got != "STOPPING=1\nSTATUS=draining" {
		t.Errorf("at the end %q", got)
	}
}

// TestWatchdog: the manager hears from a gateway whose accept loops answer, over reloads too, and
// not from one of which one hangs.
func TestWatchdog(t *testing.T) {
	m := newManager(t)
	web, app := proxytest.FreeAddress(t), named(t, "app")
	rest := routeTable("all", "", "app") + backendTable("app", app, "")
	r := startRig(t, head+listenerTable("web", web, "")+rest, func(o *Options) { o.Notifier = m.notifier(300*time.Millisecond, 0) })
	for i := range 5 {
		m.await("WATCHDOG=1")
		r.swap(head + listenerTable("web", web, "") + listenerTable([]string{"a", "b"}[i%2], "127.0.0.1:0", "") + rest)
	}
	if strings.Contains(r.log.String(), "watchdog") {
		t.Errorf("a false alarm:\n%s", r.log)
	}

	// A further accept loop, which hangs.
	l, err := listener.Open(t.Context(), listener.Options{Name: "hung", Addresses: []string{"127.0.0.1:0"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		served <- l.Serve(t.Context(), func(c net.Conn, _ *listener.Socket) {
			close(entered)
			<-release
			c.Close()
		})
	}()
	proxytest.Dial(t, l.Sockets()[0].Address, mptcp.Off)
	<-entered
	gen := *r.gen.Load()
	listeners := gen.listeners
	gen.listeners = map[string]*front{"hung": {sockets: l}}
	for name, f := range listeners {
		gen.listeners[name] = f
	}
	good := r.gen.Swap(&gen)
	r.logs(`health check failed; the systemd watchdog is not notified.*listener \\"hung\\": 127.0.0.1:\d+: the accept loop does not answer`)
	for text := m.next(time.Millisecond); text != ""; text = m.next(time.Millisecond) {
	}
	if text := m.next(time.Second); text != "" {
		t.Errorf("the manager is told %q while a loop hangs", text)
	}
	close(release)
	m.await("WATCHDOG=1")
	r.gen.Store(good)
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestStore: sockets that the gateway bound by itself outlast it in the manager's store, with the
// connections that wait at them. One that the configuration no longer has, or that has the wrong
// protocol, is taken out.
func TestStore(t *testing.T) {
	proxytest.NeedMPTCP(t)
	m := newManager(t)
	a, b, c, app := proxytest.FreeAddress(t), proxytest.FreeAddress(t), proxytest.FreeAddress(t), named(t, "app")
	dir := t.TempDir()
	file := func(addresses, mode string) string {
		return head + "[[listener]]\nname = \"web\"\naddress = [ " + addresses + " ]\nmptcp = \"" + mode + "\"\n" +
			routeTable("all", "", "app") + backendTable("app", app, "")
	}
	quoted := func(list ...string) string { return `"` + strings.Join(list, `", "`) + `"` }
	unix := "unix:" + filepath.Join(dir, "s")
	first := startRig(t, file(quoted(a, b, unix), "prefer"), func(o *Options) { o.Notifier = m.notifier(0, 8) })
	m.await("READY=1")
	if len(m.stored) != 3 || m.stored["mpgate-0"] == nil || m.stored["mpgate-2"] == nil {
		t.Fatalf("the store has %v", m.stored)
	}
	first.swap(file(quoted(a, unix, c), "prefer"))
	m.await("READY=1")
	if len(m.stored) != 3 {
		t.Errorf("after a reload that gives one address up and adds one, the store has %v", m.stored)
	}
	first.end()
	waits := []*proxytest.Client{proxytest.Dial(t, a, mptcp.Off), proxytest.Dial(t, unix, mptcp.Off)}
	for _, w := range waits {
		w.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}

	// The next process, which has given c up.
	restart := func(toml string) *rig {
		in := new(listener.Inherited)
		for name, f := range m.stored {
			fd, err := syscall.Dup(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			_ = syscall.SetNonblock(fd, true)
			in.AddSpare(name, os.NewFile(uintptr(fd), name), listener.Store)
		}
		stop := make(chan struct{})
		answered := make(chan struct{})
		go func() { // a barrier waits for it
			defer close(answered)
			for {
				select {
				case <-stop:
					return
				default:
					m.next(10 * time.Millisecond)
				}
			}
		}()
		r := startRig(t, toml, func(o *Options) { o.Inherited, o.Notifier = in, m.notifier(0, 8) })
		close(stop)
		<-answered
		for m.next(50*time.Millisecond) != "" {
		}
		return r
	}
	second := restart(file(quoted(a, unix), "prefer"))
	for _, w := range waits {
		if got := w.Answer(); got.Status != 200 {
			t.Errorf("who waited got %q", got.Head)
		}
	}
	second.logs(`closed a socket of an earlier process: no listener has its address.*` + c)
	second.logs(`removed an unused socket from systemd's file descriptor store`)
	for _, s := range second.Status().Listeners[0].Sockets {
		if !s.Inherited {
			t.Errorf("not out of the store: %+v", s)
		}
	}
	if len(m.stored) != 2 {
		t.Errorf("the store has %v", m.stored)
	}
	second.end()

	third := restart(file(quoted(a), "off"))
	third.logs(`a socket of an earlier process is not used.*why="it is a mptcp socket, but tcp is configured"`)
	if s := third.Status().Listeners[0].Sockets[0]; s.Transport != "tcp" || s.Inherited {
		t.Errorf("after the change of protocol: %+v", s)
	}
	if got := fetch(t, "http://"+a+"/"); got != "200 app" {
		t.Errorf("it says %q", got)
	}
	if len(m.stored) != 1 {
		t.Errorf("the store has %v", m.stored)
	}
}

// TestStoreOverAnUpgrade: the process that takes over knows by which names the store has the
// sockets.
func TestStoreOverAnUpgrade(t *testing.T) {
	m := newManager(t)
	r := startRig(t, head+listenerTable("one", "127.0.0.1:0", "")+listenerTable("two", "127.0.0.1:0", "")+app(t), func(o *Options) {
		o.Notifier, o.Command = m.notifier(0, 8), func() (string, []string) { return "/proc/none/mpgate", nil }
	})
	m.await("READY=1")
	report, reportTo, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	release, releaseBy, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles([]*os.File{report, releaseBy})
	state, err := r.handOverState()
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := r.child(reportTo, release, state)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(cmd.ExtraFiles)
	_, text, _ := strings.Cut(cmd.Env[len(cmd.Env)-1], "=")
	var i inheritance
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatal(err)
	}
	own := func(n int) int { // a descriptor that FromParent may have for its own
		fd, err := syscall.Dup(int(cmd.ExtraFiles[n-3].Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	i.Ready, i.Go, i.State = own(i.Ready), own(i.Go), own(i.State)
	for k := range i.Sockets {
		i.Sockets[k].FD = own(i.Sockets[k].FD)
	}
	handed, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(upgradeVariable, string(handed))
	in := new(listener.Inherited)
	p, err := FromParent(in)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer p.Fail(errors.New("a test"))
	if got := p.serverStates("app"); len(got) != 1 {
		t.Errorf("it knows the servers %v, want one", got)
	}
	if got := newFDStore(r.options.Notifier, in, p, r.Gateway.log).names; len(got) != 2 || !maps.Equal(got, r.store.names) {
		t.Errorf("it knows %v, want %v", got, r.store.names)
	}
}

// TestDrainGoesOnAccepting: what somebody else keeps listening is served to the end, with the word
// that it ends.
func TestDrainGoesOnAccepting(t *testing.T) {
	l := proxytest.Listen(t, mptcp.Off)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	address := l.Addr().String()
	r := startRig(t, head+"[shutdown]\ndrain = \"2s\"\n[[listener]]\nname = \"web\"\nsystemd = \"web\"\nmptcp = \"off\"\n"+
		routeTable("all", "", "app")+routeTable("up", `path = "/up"`, "tunnels")+backendTable("app", named(t, "app"), "")+backendTable("tunnels", echoes(t), ""),
		func(o *Options) { o.Inherited = listener.NewInherited(map[string][]*os.File{"web": {f}}) })
	tunnel := upgraded(t, address, "/up")
	r.stop()
	r.logs("msg=draining")
	for range 20 {
		c := proxytest.Dial(t, address, mptcp.Off)
		if a := c.Get("/"); a.Status != 200 || a.Header("Connection") != "close" {
			t.Fatalf("while it drains: %q", a.Head)
		}
		c.WantClosed()
	}
	carries(t, tunnel)
	r.end()
	r.logs(`connections aborted: still in use when shutdown.drain expired" connections=1`)
}

// A new process that is ready and then gone leaves this one in its place, also in the manager's
// eyes.
func TestUpgradeToOneThatGoes(t *testing.T) {
	m := newManager(t)
	r := startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+app(t), func(o *Options) {
		o.Notifier = m.notifier(0, 0)
		o.Command = func() (string, []string) {
			return "/bin/sh", []string{"-c", "exec 4<&-; echo ready >&3; exec 3>&-; exec sleep 60"}
		}
	})
	failed := make(chan error, 1)
	go func() { failed <- r.Upgrade(t.Context()) }()
	m.await("MAINPID=")
	m.await("BARRIER=1")
	if got, want := m.await("MAINPID="), fmt.Sprintf("MAINPID=%d", os.Getpid()); got != want {
		t.Errorf("at last it says %s, want %s", got, want)
	}
	m.await("BARRIER=1") // the manager knows, before the new one is ended
	if err := <-failed; err == nil || !strings.HasPrefix(err.Error(), "upgrade failed; the running process continues: ") {
		t.Errorf("upgrade: %v", err)
	}
	if got := fetch(t, "http://"+r.address("web")); got != "200 app" {
		t.Errorf("it serves %q", got)
	}
}

// A new process that cannot be started leaves the sockets as they were: with the admin address on a
// blocking one this process could not end any more once somebody has asked there.
func TestUpgradeToOneThatCannotStart(t *testing.T) {
	r := startRig(t, strings.Replace(head, "unix:admin.sock", proxytest.FreeAddress(t), 1)+listenerTable("web", "127.0.0.1:0", "")+app(t), func(o *Options) {
		o.Command = func() (string, []string) { return "/proc/none/mpgate", nil }
	})
	if err := r.Upgrade(t.Context()); err == nil || !strings.Contains(err.Error(), "/proc/none/mpgate") {
		t.Errorf("upgrade: %v", err)
	}
	for range 3 {
		if got := fetch(t, "http://"+r.AdminAddress()+"/healthz"); !strings.HasPrefix(got, "200 ") {
			t.Errorf("/healthz says %q", got)
		}
	}
	r.end()
}
