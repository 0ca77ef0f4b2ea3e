package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// A check tests whether a server works. run returns nil if requests may be sent to the server. Its
// context ends with the server; a check bounds its own time. It is run once at a time for a server.
//
// During an outage of a server the check of its backend is repeated until it succeeds; see outage.
// With Options.Check it is also run while the server works; see checkPeriodically.
type check interface {
	run(context.Context, *Server) error
}

// CheckOptions describe the checks of the servers of a backend: a request if Path is set, a call of
// the gRPC health service if GRPC is set, otherwise a connect.
type CheckOptions struct {
	Path     string // with the query
	GRPC     bool
	Service  string        // for GRPC; "": the server as a whole
	Interval time.Duration // from the start of one check to that of the next; 5 s
	Timeout  time.Duration // of one check, with its connect; 2 s
	Rise     int           // successes in a row until a server gets requests again; 2
	Fall     int           // failures in a row until it gets none; 3

	// For Path:

	Method   string        // GET
	Host     string        // that of the server's address
	Statuses []StatusRange // that mean success; 200 to 399
	Body     string        // that the body of the response contains; "": anything
}

// StatusRange is the status codes from First to Last.
type StatusRange struct{ First, Last int }

func (c *CheckOptions) setDefaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&c.Interval, 5*time.Second)
	set(&c.Timeout, 2*time.Second)
	if c.Rise <= 0 {
		c.Rise = 2
	}
	if c.Fall <= 0 {
		c.Fall = 3
	}
}

// rise is how many checks must succeed until an outage ends.
func (c *CheckOptions) rise() int {
	if c == nil {
		return 1
	}
	return c.Rise
}

// newCheck returns the check that the options describe; nil: none.
func newCheck(o *CheckOptions) (check, error) {
	switch {
	case o == nil, o.Path == "" && !o.GRPC:
		return connectCheck{}, nil
	case o.GRPC:
		return newGRPCCheck(o), nil
	}
	return newHTTPCheck(o)
}

// checkError means that a server could be connected to, and failed a check.
type checkError struct{ text string }

func (e *checkError) Error() string { return e.text }

func isShortage(err error) bool {
	var short *ShortError
	return errors.As(err, &short)
}

// checks is the state of the checks of one server.
type checks struct {
	mu   sync.Mutex // held during a check; guards what follows
	kept checkConn
}

// check runs the check of the backend once, and counts it.
func (s *Server) check(ctx context.Context) error {
	s.checks.mu.Lock()
	defer s.checks.mu.Unlock()
	err := s.backend.check.run(ctx, s)
	if s.backend.options.Check != nil && ctx.Err() == nil && !isShortage(err) {
		s.meter.Checked(err == nil)
	}
	return err
}

// firstCheckTime is within what time after the start the first checks of all servers are spread.
const firstCheckTime = 2 * time.Second

// checkPeriodically checks the server until ctx ends, except during outages, which have checks of
// their own. A server that has never passed a check is down at the first failure.
func (s *Server) checkPeriodically(ctx context.Context) {
	o := s.backend.options.Check
	defer s.closeCheckConn()
	timer := time.NewTimer(rand.N(min(o.Interval, firstCheckTime)))
	defer timer.Stop()
	fall, failed := 1, 0
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		switch {
		case AdminState(s.admin.Load()) == AdminDown:
			s.closeCheckConn()
			failed = 0
		case s.outage.Load() != nil:
			failed = 0
		default:
			err := s.check(ctx)
			if ctx.Err() != nil {
				return
			}
			fall, failed = s.noteCheck(err, fall, failed)
		}
		timer.Reset(untilBatch(began.Add(jitter(o.Interval)), o.Interval))
	}
}

// noteCheck records the result of a check outside an outage, given how many failures in a row are
// too many and how many there were. It returns both for the next one.
func (s *Server) noteCheck(err error, fall, failed int) (int, int) {
	usual := s.backend.options.Check.Fall
	switch {
	case err == nil:
		return usual, 0
	case isShortage(err): // it says nothing about the server
		return fall, failed
	case failed+1 < fall:
		return fall, failed + 1
	}
	s.fail(telemetry.ChangeCheck, err)
	return usual, 0
}

// untilBatch returns the time from now to a moment near at. Checks of many servers share their
// moments: waking up costs more than a check.
func untilBatch(at time.Time, interval time.Duration) time.Duration {
	const perInterval = 25
	every := interval / perInterval
	since := at.Sub(epoch) // the same for all backends
	return max(0, time.Until(epoch.Add((since+every/2)/every*every)))
}

// jitter returns d plus or minus a tenth, so that checks by many gateways and of many servers
// spread.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

// connectCheck connects to the server as a request would. In an outage it keeps the connection,
// which then serves the first request.
type connectCheck struct{}

func (connectCheck) run(ctx context.Context, s *Server) error {
	limit := s.backend.options.ConnectTimeout
	if o := s.backend.options.Check; o != nil {
		limit = min(limit, o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	keep := s.outage.Load() != nil
	if !keep && s.tls == nil {
		return s.touch(ctx)
	}
	shared, exclusive, err := s.reach(ctx, Addresses{}, s.mayShare(&Request{}), keep)
	if err == errFull {
		keep = false
		shared, exclusive, err = s.reach(ctx, Addresses{}, s.mayShare(&Request{}), false)
	}
	switch {
	case err != nil:
		return err
	case shared != nil && keep:
		s.addShared(shared)
	case shared != nil:
		shared.Close()
	case !keep, s.backend.options.SendProxy != 0: // its PROXY header names no client
		exclusive.close()
	default:
		s.shared.notePick(true)
		s.putIdle(exclusive, time.Now())
	}
	return nil
}

// touch connects and closes the connection. It costs a third of what reach does.
func (s *Server) touch(ctx context.Context) error {
	limit := s.backend.connLimit
	if !limit.Acquire() {
		return &ShortError{ShortConnections, errConnections}
	}
	defer limit.Release()
	var result mptcp.Result
	var err error
	if s.unix == "" && s.names == nil {
		result, err = s.dialer.Touch(ctx, s.addr)
	} else {
		var nc net.Conn
		if nc, _, result, err = s.dialSocket(ctx, route{}); err == nil {
			err = nc.Close()
		}
	}
	if err != nil {
		s.meter.Connect(s.requestedTransport().String(), connectResult(err))
		return shortage(err)
	}
	s.meter.Connect(result.Transport.String(), telemetry.ConnectOK)
	s.last.Store(&result)
	return nil
}
