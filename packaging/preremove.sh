#!/bin/sh
# deb: remove, or upgrade; rpm: 0 at the end, 1 at an upgrade.
set -e

case $1 in
remove | 0) ;;
*) exit 0 ;; # an upgrade restarts when the new files are there
esac
[ -d /run/systemd/system ] || exit 0
# Units that `mpgate units` wrote are the administrator's; they serve nobody without the program.
for unit in $(systemctl list-unit-files --no-legend 'mpgate-*.socket' | cut -d' ' -f1) mpgate.service; do
	systemctl disable --now "$unit" || :
done
