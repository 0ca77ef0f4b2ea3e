package mptcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"mpgate/task"
)

// Attributes of events, of <linux/mptcp_pm.h>.
const (
	evToken       = 1
	evLocID       = 3
	evRemID       = 4
	evSaddr4      = 5
	evSaddr6      = 6
	evDaddr4      = 7
	evDaddr6      = 8
	evSport       = 9
	evDport       = 10
	evBackup      = 11
	evError       = 12
	evFlags       = 13
	evIfIdx       = 15
	evResetReason = 16
	evResetFlags  = 17
	evServerSide  = 18

	evFlagDenyJoinID0 = 1
	evFlagServerSide  = 2
)

// Events is a subscription to what happens to the MPTCP connections of one
// network namespace. One goroutine may read it.
type Events struct {
	c      *genetlink.Conn
	closed atomic.Bool
	queued []Event
}

// A burst of connections is some hundred bytes an event.
const eventsBuffer = 1 << 20

// OpenEvents subscribes in the calling thread's network namespace. It needs CAP_NET_ADMIN.
func OpenEvents() (*Events, error) {
	c, f, err := dialPM()
	if err != nil {
		return nil, err
	}
	for _, g := range f.Groups {
		if g.Name != pmEventsGroup {
			continue
		}
		_ = c.SetReadBuffer(eventsBuffer)
		if err := c.JoinGroup(g.ID); err != nil {
			c.Close()
			return nil, explain("subscribe to MPTCP events", err)
		}
		return &Events{c: c}, nil
	}
	c.Close()
	return nil, fmt.Errorf("this kernel sends no MPTCP events (no group %s)", pmEventsGroup)
}

// Close ends the subscription and a Next that waits.
func (e *Events) Close() error {
	e.closed.Store(true)
	return e.c.Close()
}

// Next waits for an event. After ErrOverrun it may be called again. It ends with the
// context's error, or with os.ErrClosed.
func (e *Events) Next(ctx context.Context) (Event, error) {
	if len(e.queued) == 0 {
		if err := e.receive(ctx); err != nil {
			return Event{}, err
		}
	}
	ev := e.queued[0]
	e.queued = e.queued[1:]
	return ev, nil
}

func (e *Events) receive(ctx context.Context) error {
	if err := e.c.SetReadDeadline(time.Time{}); err != nil {
		return e.closedOr(err)
	}
	fired := make(chan struct{})
	stop := task.AfterDone(ctx, "MPTCP events: end", func() {
		defer close(fired)
		_ = e.c.SetReadDeadline(expired)
	})
	defer func() {
		if !stop() {
			<-fired // else its deadline could hit the next call
		}
	}()
	e.queued = nil
	for len(e.queued) == 0 {
		msgs, _, err := e.c.Receive()
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, unix.ENOBUFS):
				return ErrOverrun
			}
			return e.closedOr(err)
		}
		for _, m := range msgs {
			ev, err := decodeEvent(m.Header.Command, m.Data)
			if err != nil {
				return fmt.Errorf("MPTCP event %d: %w", m.Header.Command, err)
			}
			e.queued = append(e.queued, ev)
		}
	}
	return nil
}

// closedOr is os.ErrClosed after Close: the errors that a closed socket gives differ.
func (e *Events) closedOr(err error) error {
	if e.closed.Load() {
		return os.ErrClosed
	}
	return fmt.Errorf("read MPTCP events: %w", err)
}

func decodeEvent(cmd uint8, data []byte) (Event, error) {
	ev := Event{Type: EventType(cmd)}
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return ev, err
	}
	var local, remote netip.Addr
	var sport, dport uint16
	for ad.Next() {
		switch ad.Type() {
		case evToken:
			ev.Token = ad.Uint32()
		case evLocID:
			ev.LocalID = ad.Uint8()
		case evRemID:
			ev.RemoteID = ad.Uint8()
		case evSaddr4, evSaddr6:
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case evDaddr4, evDaddr6:
			remote, _ = netip.AddrFromSlice(ad.Bytes())
		case evSport:
			sport = bePort(ad.Bytes())
		case evDport:
			dport = bePort(ad.Bytes())
		case evBackup:
			ev.Backup = ad.Uint8() != 0
		case evError:
			ev.Error = syscall.Errno(ad.Uint8())
		case evFlags:
			f := ad.Uint16()
			ev.DenyJoinID0 = f&evFlagDenyJoinID0 != 0
			ev.ServerSide = ev.ServerSide || f&evFlagServerSide != 0
		case evIfIdx:
			ev.Interface = int(ad.Int32())
		case evResetReason:
			ev.ResetReason = ad.Uint32()
		case evResetFlags:
			ev.ResetFlags = ad.Uint32()
		case evServerSide:
			ev.ServerSide = ad.Uint8() != 0
		}
	}
	if local.IsValid() {
		ev.Local = netip.AddrPortFrom(local.Unmap(), sport)
	}
	if remote.IsValid() {
		ev.Remote = netip.AddrPortFrom(remote.Unmap(), dport)
	}
	return ev, ad.Err()
}
