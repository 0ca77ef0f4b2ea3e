package paths

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// An error that goes away, such as want of memory, ends nothing: all is read again, and news are
// heard again.
func TestHearAfterAnError(t *testing.T) {
	answers := make(chan error, 3)
	r := &rtnetlink{last: map[int]time.Time{}, notices: nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
		return []netlink.Message{{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: make([]byte, 16)}}, <-answers
	})}
	changed, ended := make(chan error, 3), make(chan struct{})
	go func() {
		defer close(ended)
		r.listen(func() { changed <- r.listenError(time.Now()) })
	}()
	answers <- os.NewSyscallError("recvmsg", unix.ENOMEM)
	if err := <-changed; !errors.Is(err, unix.ENOMEM) {
		t.Errorf("after an error it says %v", err)
	}
	if err := r.listenError(time.Now().Add(listenErrAge)); err != nil {
		t.Errorf("some time after it, without news, it says %v", err)
	}
	answers <- nil
	if err := <-changed; err != nil {
		t.Errorf("after a message it says %v", err)
	}
	answers <- os.ErrClosed
	<-ended
}

// Whatever the error is that the end of the socket gives, nobody waits for news then.
func TestHearEndsAtOnce(t *testing.T) {
	r := &rtnetlink{last: map[int]time.Time{}, closed: make(chan struct{}), notices: nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
		return nil, errors.New("use of closed file")
	})}
	close(r.closed)
	r.listen(func() { t.Error("it goes on") })
}
