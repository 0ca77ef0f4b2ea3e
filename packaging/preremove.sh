#!/bin/sh
# deb: remove, or upgrade; rpm: 0 at the end, 1 at an upgrade.
set -e

case $1 in
remove | 0) ;;
*) exit 0 ;; # an upgrade restarts the service after the new files are installed
esac
[ -d /run/systemd/system ] || exit 0
# Units from `mpgate units` belong to the administrator, but are useless without the program.
for unit in $(systemctl list-unit-files --no-legend 'mpgate-*.socket' | cut -d' ' -f1) mpgate.service; do
	systemctl disable --now "$unit" || :
done
