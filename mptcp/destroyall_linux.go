package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A Target is a subflow to be destroyed. Interface is as in Destroy.
type Target struct {
	Local, Remote netip.AddrPort
	Interface     int
}

// mostTargets are sent in one call: their answers have to fit the socket's buffer.
const mostTargets = 64

const nlHeader = unix.NLMSG_HDRLEN

// DestroyAll is Destroy for many, in as few system calls as can be: when several
// subflows of a connection end at the same time, what was under way on them is sent
// again on those that stay. One by one, the kernel would put it on the next that is
// to end. It counts those that were there; one that was not is no error.
func (d *Diag) DestroyAll(targets []Target) (ended int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(targets) > 0 {
		n := min(len(targets), mostTargets)
		some, serr := destroySome(d.batch, targets[:n])
		ended += some
		if err == nil {
			err = serr
		}
		targets = targets[n:]
	}
	return ended, err
}

func destroySome(fd int, targets []Target) (ended int, err error) {
	var out []byte
	for i, t := range targets {
		h := make([]byte, nlHeader)
		binary.NativeEndian.PutUint32(h[0:], nlHeader+diagReqSize)
		binary.NativeEndian.PutUint16(h[4:], sockDestroy)
		binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		binary.NativeEndian.PutUint32(h[8:], uint32(i))
		out = append(append(out, h...), diagRequest(t.Local, t.Remote, t.Interface, 0)...)
	}
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	// The answers are there when the call returns.
	buf := make([]byte, 8192)
	for answers := 0; answers < len(targets); {
		n, _, rerr := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if rerr == unix.EINTR {
			continue
		}
		if rerr != nil {
			return ended, os.NewSyscallError("recvfrom", rerr)
		}
		for b := buf[:n]; len(b) >= nlHeader+4; {
			size := int(binary.NativeEndian.Uint32(b))
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[nlHeader:])))
			if i := int(binary.NativeEndian.Uint32(b[8:])); errno == 0 {
				ended++
			} else if err == nil && !errors.Is(errno, unix.ENOENT) && i < len(targets) {
				err = explain(fmt.Sprintf("destroy subflow %s -> %s", targets[i].Local, targets[i].Remote), errno)
			}
			answers++
			if size < nlHeader {
				break
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
	return ended, err
}
