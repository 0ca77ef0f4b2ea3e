#!/bin/sh
# deb: configure [old version]; rpm: 1 at an installation, 2 at an upgrade.
set -e

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers mpgate.conf
elif ! getent passwd mpgate >/dev/null; then
	useradd --system --home-dir /var/lib/mpgate --shell /usr/sbin/nologin mpgate
fi

[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case $1 in
configure) [ -n "$2" ] || exit 0 ;;
2) ;;
*) exit 0 ;; # the administrator writes a configuration, then runs: systemctl enable --now mpgate.service
esac
# The sockets stay open: connections wait about a tenth of a second for the new process.
systemctl try-restart mpgate.service || echo "mpgate: the new version does not start; journalctl -u mpgate says why" >&2
