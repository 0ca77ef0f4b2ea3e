//go:build !linux

package paths

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
)

// A Manager does not exist on this system.
type Manager struct{}

// Open fails.
func Open(o Options) (*Manager, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return nil, errors.ErrUnsupported
}

// Run does nothing.
func (*Manager) Run(context.Context) error { return errors.ErrUnsupported }

// Update fails.
func (*Manager) Update(Options) error { return errors.ErrUnsupported }

// HandOver hands over nothing.
func (*Manager) HandOver(context.Context) (*Handover, error) { return new(Handover), nil }

// Status is empty.
func (*Manager) Status() Status { return Status{} }

// Close does nothing.
func (*Manager) Close() {}

// Look fails.
func Look(Options) (Status, error) { return Status{}, errors.ErrUnsupported }

// RouteDevice fails.
func RouteDevice(local, remote netip.Addr) (int, error) { return 0, errors.ErrUnsupported }

// SelectSource leaves it to the kernel.
func (*Manager) SelectSource(netip.Addr) netip.Addr { return netip.Addr{} }

// OtherSource knows no path.
func (*Manager) OtherSource(from, to netip.Addr) netip.Addr { return netip.Addr{} }

// Valid never ends.
func (*Manager) Valid() context.Context { return context.Background() }

// PathAt knows no path.
func (*Manager) PathAt(netip.Addr) string { return "" }

// CountClosing does nothing.
func (*Manager) CountClosing(syscall.RawConn) {}

// Snapshot is empty.
func (*Manager) Snapshot(most int) Snapshot { return Snapshot{} }
