package main

import (
	"github.com/coreos/go-systemd/v22/daemon"

	"mpgate/gateway"
)

// notifySystemd tells systemd what the gateway does, where systemd asked to be told (NOTIFY_SOCKET).
func notifySystemd(n gateway.Notice) {
	var state string
	switch n {
	case gateway.NoticeReady:
		state = daemon.SdNotifyReady
	case gateway.NoticeReloading:
		state = daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()
	case gateway.NoticeStopping:
		state = daemon.SdNotifyStopping
	}
	// There is nobody to tell that nobody could be told.
	_, _ = daemon.SdNotify(false, state)
}
