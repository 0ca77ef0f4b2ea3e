package mptcp

import (
	"cmp"
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

// maxTargets are sent in one call: their answers have to fit the socket's buffer.
const maxTargets = 32

const nlHeader = unix.NLMSG_HDRLEN

// DestroyAll is Destroy for many, in as few system calls as can be: when several subflows of a
// connection end at the same time, what was under way on them is sent again on those that stay. One
// by one, the kernel would put it on the next that is to end. It counts those that were there; one
// that was not is no error. No listener is destroyed, whatever the addresses.
func (d *Diag) DestroyAll(targets []Target) (ended int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(targets) > 0 {
		n := min(len(targets), maxTargets)
		some, serr := destroySome(d.batch, targets[:n])
		ended += some
		if err == nil {
			err = serr
		}
		targets = targets[n:]
	}
	return ended, err
}

// destroySome looks each up first and destroys it by the cookie that it has then. A subflow that is
// gone, or is bound to another device, is not what the kernel would find by its addresses alone:
// that is the listener they belong to, and a plain TCP one would be destroyed.
func destroySome(fd int, targets []Target) (ended int, err error) {
	cookies := make([]uint64, len(targets))
	err = diagExchange(fd, targets, func(i int) []byte {
		t := &targets[i]
		return diagMessage(sockDiagByFamily, 0, i, diagRequest(t.Local, t.Remote, t.Interface, 0))
	}, func(i int, errno unix.Errno, answer []byte) error {
		if len(answer) >= diagMsgSize && State(answer[diagState]) != StateListen {
			cookies[i] = binary.NativeEndian.Uint64(answer[diagCookie:])
		}
		return errno
	})
	// One that could not be looked up keeps none of the others.
	derr := diagExchange(fd, targets, func(i int) []byte {
		t := &targets[i]
		if cookies[i] == 0 {
			return nil
		}
		q := diagRequest(t.Local, t.Remote, t.Interface, 0)
		binary.NativeEndian.PutUint64(q[diagReqCookie:], cookies[i])
		return diagMessage(sockDestroy, unix.NLM_F_ACK, i, q)
	}, func(_ int, errno unix.Errno, _ []byte) error {
		if errno == 0 {
			ended++
		}
		return errno
	})
	return ended, cmp.Or(err, derr)
}

// Where things are in struct inet_diag_msg and struct inet_diag_req_v2.
const (
	diagState     = 1
	diagCookie    = 44
	diagReqCookie = 48
)

func diagMessage(kind uint16, flags uint16, sequence int, body []byte) []byte {
	h := make([]byte, nlHeader, nlHeader+len(body))
	binary.NativeEndian.PutUint32(h[0:], uint32(nlHeader+len(body)))
	binary.NativeEndian.PutUint16(h[4:], kind)
	binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(h[8:], uint32(sequence))
	return append(h, body...)
}

// diagExchange sends a message for each target, none where it is nil, in one call, and gives each
// answer to heard: an errno, or what was asked for. That there is no such socket is no error; the
// first other one that heard returns is.
func diagExchange(fd int, targets []Target, message func(i int) []byte, heard func(i int, errno unix.Errno, answer []byte) error) (err error) {
	var out []byte
	expected := 0
	for i := range targets {
		if m := message(i); m != nil {
			out = append(out, m...)
			expected++
		}
	}
	if expected == 0 {
		return nil
	}
	buf := make([]byte, 8192)
	for { // what a call that failed has left
		if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			break
		}
	}
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	// The answers are there when the call returns.
	for answers := 0; answers < expected; {
		n, _, rerr := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if rerr == unix.EINTR {
			continue
		}
		if rerr != nil {
			return os.NewSyscallError("recvfrom", rerr)
		}
		for b := buf[:n]; len(b) >= nlHeader+4; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < nlHeader+4 || size > len(b) {
				break
			}
			errno, answer := unix.Errno(0), b[nlHeader:size]
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
				errno, answer = unix.Errno(-int32(binary.NativeEndian.Uint32(answer))), nil
			}
			i := int(binary.NativeEndian.Uint32(b[8:]))
			if i < len(targets) {
				herr := heard(i, errno, answer)
				// ESTALE: another socket has the addresses by now.
				if err == nil && !errors.Is(herr, unix.Errno(0)) && !errors.Is(herr, unix.ENOENT) && !errors.Is(herr, unix.ESTALE) {
					err = explain(fmt.Sprintf("destroy subflow %s -> %s", targets[i].Local, targets[i].Remote), herr)
				}
			}
			answers++
			b = b[min((size+3)&^3, len(b)):]
		}
	}
	return err
}
