# Runs as the first process of the new namespaces: makes the root file system and becomes systemd.
#   sh init.sh ROOT PLACE    ROOT is read only, PLACE an empty directory
set -eu
root=$1
r=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$r"
mkdir "$r/upper" "$r/work" "$r/all"
mount -t overlay -o "lowerdir=$root,upperdir=$r/upper,workdir=$r/work" overlay "$r/all"
r=$r/all
mount -t proc proc "$r/proc"
mount -t sysfs sysfs "$r/sys"
mkdir -p "$r/sys/fs/cgroup"
mount -t cgroup2 none "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/run"
mount -t tmpfs tmpfs "$r/tmp"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for d in null zero full random urandom tty; do
	touch "$r/dev/$d"
	mount --bind "/dev/$d" "$r/dev/$d"
done
mkdir -p "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx" # PrivateDevices= looks for it
ln -s /proc/self/fd "$r/dev/fd"
ip link set lo up
hostname machine
cd "$r"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no </dev/null
