//go:build !linux

package mptcp

import (
	"context"
	"errors"
	"net/netip"
)

// A PathManager does not exist on this system.
type PathManager struct{}

// OpenPathManager fails.
func OpenPathManager() (*PathManager, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*PathManager) Close() error { return nil }

// Endpoints fails.
func (*PathManager) Endpoints() ([]Endpoint, error) { return nil, errors.ErrUnsupported }

// AddEndpoint fails.
func (*PathManager) AddEndpoint(Endpoint) (Endpoint, error) {
	return Endpoint{}, errors.ErrUnsupported
}

// DelEndpoint fails.
func (*PathManager) DelEndpoint(uint8, netip.Addr) error { return errors.ErrUnsupported }

// SetFlags fails.
func (*PathManager) SetFlags(Endpoint) (Endpoint, error) { return Endpoint{}, errors.ErrUnsupported }

// FlushEndpoints fails.
func (*PathManager) FlushEndpoints() error { return errors.ErrUnsupported }

// Limits fails.
func (*PathManager) Limits() (Limits, error) { return Limits{}, errors.ErrUnsupported }

// SetLimits fails.
func (*PathManager) SetLimits(Limits) (Limits, error) { return Limits{}, errors.ErrUnsupported }

// Events do not exist on this system.
type Events struct{}

// OpenEvents fails.
func OpenEvents() (*Events, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Events) Close() error { return nil }

// Next fails.
func (*Events) Next(context.Context) (Event, error) { return Event{}, errors.ErrUnsupported }

// A Diag does not exist on this system.
type Diag struct{}

// OpenDiag fails.
func OpenDiag() (*Diag, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Diag) Close() error { return nil }

// Destroy fails.
func (*Diag) Destroy(local, remote netip.AddrPort, iface int) error { return errors.ErrUnsupported }

// Fill fails.
func (*Diag) Fill(*Info, ...int) error { return errors.ErrUnsupported }

// A Target is a subflow to be destroyed.
type Target struct {
	Local, Remote netip.AddrPort
	Interface     int
}

// DestroyAll fails.
func (*Diag) DestroyAll([]Target) (int, error) { return 0, errors.ErrUnsupported }
