package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Server listens on two loopback ports of the kernel's choice.
type Server struct {
	TCP, MPTCP string // addresses; MPTCP is "" where the kernel has none

	listeners []int
	workers   []*worker
	stats     struct{ tcp, mptcp, fallback, requests atomic.Int64 }
	stop      atomic.Bool
	wake      int // eventfd that ends the workers' waiting
}

// Options of a Server.
type Options struct {
	Threads int // event loops
	// Every: listen on every address of the loopback, 127.0.0.0/8, and not on 127.0.0.1 alone.
	Every bool
}

// New opens the listeners.
func New(o Options) (*Server, error) {
	s := &Server{}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s.wake = wake
	if s.TCP, err = s.listen(0, o.Every); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if s.MPTCP, err = s.listen(unix.IPPROTO_MPTCP, o.Every); err != nil {
		s.MPTCP = ""
	}
	for range o.Threads {
		w, err := newWorker(s)
		if err != nil {
			return nil, err
		}
		s.workers = append(s.workers, w)
	}
	return s, nil
}

func (s *Server) listen(protocol int, every bool) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return "", err
	}
	address := [4]byte{127, 0, 0, 1}
	if every {
		// Bound to the device, the wildcard is reached from this host alone.
		if err := unix.BindToDevice(fd, "lo"); err != nil {
			return "", err
		}
		address = [4]byte{}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: address}); err != nil {
		return "", err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return "", err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	s.listeners = append(s.listeners, fd)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(sa.(*unix.SockaddrInet4).Port)), nil
}

// Serve answers until ctx is over.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.stop.Store(true)
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(s.workers))
	for i, w := range s.workers {
		wg.Go(func() { errs[i] = w.loop() })
	}
	wg.Wait()
	for _, fd := range append(s.listeners, s.wake) {
		unix.Close(fd)
	}
	return errors.Join(errs...)
}

// worker is one event loop: an epoll of its own, its own connections and answers. Nothing is shared
// while it answers.
type worker struct {
	server  *Server
	epoll   int
	answers map[int]*answer // by size
	texts   map[int]*answer
	now     time.Time

	mu    sync.Mutex // held to change conns, and by whoever counts fallbacks for /stats
	conns map[int]*conn
}

type conn struct {
	fd      int
	mptcp   bool
	in      []byte // received, not yet parsed
	out     []byte // still to send
	closing bool
	waiting bool // for room to write
	sink    bool // what comes is dropped
}

func newWorker(s *Server) (*worker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w := &worker{server: s, epoll: fd, conns: make(map[int]*conn), answers: make(map[int]*answer), texts: make(map[int]*answer)}
	for _, l := range s.listeners {
		if err := w.watch(unix.EPOLL_CTL_ADD, l, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
			return nil, err
		}
	}
	return w, w.watch(unix.EPOLL_CTL_ADD, s.wake, unix.EPOLLIN)
}

func (w *worker) watch(op, fd int, events uint32) error {
	if err := unix.EpollCtl(w.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (w *worker) loop() error {
	// The thread is the loop's alone: its blocking epoll_wait is not the Go scheduler's business.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events := make([]unix.EpollEvent, 256)
	for !w.server.stop.Load() {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		w.now = time.Now()
		for _, e := range events[:n] {
			fd := int(e.Fd)
			if c := w.conns[fd]; c != nil {
				w.serve(c)
			} else if fd != w.server.wake {
				w.accept(fd)
			}
		}
	}
	for _, c := range w.conns {
		w.close(c)
	}
	return unix.Close(w.epoll)
}

// accept takes what waits. Which protocol a connection came with is asked of the socket: an MPTCP
// listener hands out plain ones too.
func (w *worker) accept(listener int) {
	for range 64 {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // EAGAIN, or a client that left: there is nothing to do about either
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
		protocol, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		c := &conn{fd: fd, mptcp: protocol == unix.IPPROTO_MPTCP, in: make([]byte, 0, 4096)}
		if c.mptcp {
			w.server.stats.mptcp.Add(1)
		} else {
			w.server.stats.tcp.Add(1)
		}
		if w.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		w.mu.Lock()
		w.conns[fd] = c
		w.mu.Unlock()
	}
}

func (w *worker) close(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countFallback(c)
	delete(w.conns, c.fd)
	unix.Close(c.fd)
}

// countFallback notes a connection that is MPTCP no more (TCP_IS_MPTCP, kernel 6.10), once.
func (w *worker) countFallback(c *conn) {
	const tcpIsMPTCP = 43
	if !c.mptcp {
		return
	}
	if v, err := unix.GetsockoptInt(c.fd, unix.SOL_TCP, tcpIsMPTCP); err == nil && v == 0 {
		w.server.stats.fallback.Add(1)
		c.mptcp = false
	}
}

// serve does all that can be done for a connection without waiting.
func (w *worker) serve(c *conn) {
	// What was received while the socket was full comes first: there may be no further event for
	// it.
	if !w.flush(c) || !w.answer(c) {
		return
	}
	n, err := read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	// n is also 0 when a head fills the buffer; no proxy sends one that long.
	case err != nil || n == 0:
		w.close(c)
		return
	}
	if !c.sink {
		c.in = c.in[:len(c.in)+n]
		w.answer(c)
	}
}

// answer works through the requests that were received; false: it had to stop before the end, or
// the connection is closed.
func (w *worker) answer(c *conn) bool {
	rest, open := c.in, true
	for len(rest) > 0 && open {
		r, used, err := parse(rest)
		if err != nil {
			c.out, c.closing = []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), true
		} else if used == 0 {
			break
		} else if r.sink {
			c.sink, rest = true, nil
			break
		} else {
			c.closing = r.close
			c.out = w.respond(r)
			rest = rest[used:]
		}
		open = w.flush(c)
	}
	c.in = c.in[:copy(c.in, rest)]
	return open
}

// flush sends what is owed; false: the socket is full (the loop is told when it no longer is) or
// closed.
func (w *worker) flush(c *conn) bool {
	for len(c.out) > 0 {
		n, err := write(c.fd, c.out)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			if !c.waiting {
				c.waiting = true
				_ = w.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLOUT)
			}
			return false
		}
		if err != nil {
			w.close(c)
			return false
		}
		c.out = c.out[n:]
	}
	if c.closing {
		w.close(c)
		return false
	}
	if c.waiting {
		c.waiting = false
		_ = w.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN)
	}
	return true
}

func (w *worker) respond(r request) []byte {
	if string(r.path) == "/stats" {
		return w.server.statsAnswer()
	}
	n, known, fill := bodySize(r.path), w.answers, fill
	if n < 0 {
		n, known, fill = textSize(r.path), w.texts, prose
	}
	if n < 0 {
		return []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	}
	w.server.stats.requests.Add(1)
	a := known[n]
	if a == nil {
		a = newAnswer(n, fill)
		known[n] = a
	}
	// The date is written into bytes that another connection may still be sending: half a second
	// early in its head at worst, and the length never changes.
	return a.at(w.now)
}

func (s *Server) statsAnswer() []byte {
	for _, w := range s.workers {
		w.mu.Lock()
		for _, c := range w.conns {
			w.countFallback(c)
		}
		w.mu.Unlock()
	}
	body, err := json.Marshal(Stats{s.stats.tcp.Load(), s.stats.mptcp.Load(), s.stats.fallback.Load(), s.stats.requests.Load()})
	if err != nil {
		return []byte("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
	}
	return append([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
}

// read and write bypass the scheduler's bookkeeping: the sockets never block.
func read(fd int, p []byte) (int, error)  { return rawIO(syscall.SYS_READ, fd, p) }
func write(fd int, p []byte) (int, error) { return rawIO(syscall.SYS_WRITE, fd, p) }
