//go:build !linux

package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"time"
)

var errLinux = errors.New("lab: network namespaces are Linux's; run it there as root")

func capable() error { return errLinux }

// Lab, Place and Link exist so that packages which use them build; New gives
// none.
type (
	Lab   struct{}
	Place struct{}
	Link  struct{ *LinkSpec }
)

func New(ctx context.Context, spec Spec) (*Lab, error) { return nil, errLinux }

func (l *Lab) Place(name string) *Place            { return nil }
func (l *Lab) Places() []*Place                    { return nil }
func (l *Lab) Link(name string) *Link              { return nil }
func (l *Lab) Links() []*Link                      { return nil }
func (l *Lab) Congestion() Congestion              { return Congestion{} }
func (l *Lab) Realtime() bool                      { return false }
func (l *Lab) EmulatorCPU() (time.Duration, error) { return 0, errLinux }
func (l *Lab) Name(prefix string) error            { return errLinux }
func (l *Lab) Close() error                        { return nil }

func (p *Place) Name() string                              { return "" }
func (p *Place) Addrs() []netip.Addr                       { return nil }
func (p *Place) Path() string                              { return "" }
func (p *Place) Do(f func() error) error                   { return errLinux }
func (p *Place) Sysctl(name, value string) error           { return errLinux }
func (p *Place) ReadSysctl(name string) (string, error)    { return "", errLinux }
func (p *Place) AddEndpoint(e Endpoint) error              { return errLinux }
func (p *Place) DelEndpoint(e Endpoint) error              { return errLinux }
func (p *Place) FlushEndpoints() error                     { return errLinux }
func (p *Place) SetLimits(subflows, accepted uint32) error { return errLinux }
func (p *Place) MPTCPCounters() (map[string]uint64, error) { return nil, errLinux }

func (p *Place) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

func (p *Place) Listen(ctx context.Context, proto Proto, address string) (*net.TCPListener, error) {
	return nil, errLinux
}

func (p *Place) Dial(ctx context.Context, proto Proto, from netip.Addr, to string) (*net.TCPConn, error) {
	return nil, errLinux
}

func (l *Link) Down(place string) error            { return errLinux }
func (l *Link) Up(place string) error              { return errLinux }
func (l *Link) Carrier(on bool) error              { return errLinux }
func (l *Link) Silence(d Direction, on bool) error { return errLinux }
func (l *Link) Set(d Direction, p Path) error      { return errLinux }
func (l *Link) SetBox(b Box) error                 { return errLinux }
func (l *Link) Counters() (there, back Counters, err error) {
	return there, back, errLinux
}
