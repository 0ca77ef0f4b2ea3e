#!/bin/sh
# deb: remove, then purge; rpm: 0 at the end.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
[ "$1" = purge ] || exit 0
# The state (accounts at CAs, certificates) remains, for root only. Everything else is removed.
if [ -d /var/lib/mpgate ]; then
	chown -R root:root /var/lib/mpgate
	chmod 700 /var/lib/mpgate
fi
rm -rf /etc/mpgate /var/log/mpgate /run/mpgate
if getent passwd mpgate >/dev/null; then
	userdel mpgate
fi
if [ -d /run/systemd/system ]; then
	systemctl reset-failed 'mpgate*' 2>/dev/null || :
fi
