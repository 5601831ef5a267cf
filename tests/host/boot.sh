#!/usr/bin/env bash
# boot.sh DIRECTORY CGROUP [SOURCE:TARGET]…: boots this machine's own systemd on a copy-on-write view of its file system,
# again after every reboot, until it powers off. To be run as the first process of PID and mount namespaces of its own, so
# that nothing outlives it. Directories given as SOURCE:TARGET are the real ones. The network is this machine's.
set -euo pipefail
directory=$1 cgroup=$2
shift 2

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory"/{upper,work,root}
export root=$directory/root

overlay() { mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$root"; }

overlay
# What this machine would start at boot is not what the tests are about.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/{usr/,}lib/systemd/system/multi-user.target.wants
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=dbus.service\nAllowIsolate=yes\n' \
  >"$root/etc/systemd/system/multi-user.target"
rm -f "$root/etc/systemd/system/default.target"
ln -s multi-user.target "$root/etc/systemd/system/default.target"
rm -rf "$root/var/log/journal"
systemd-id128 new >"$root/etc/machine-id"
for pair in "$@"; do mkdir -p "$root/${pair#*:}"; done
mkdir "$root/old-root"
umount "$root"

# As PID 1 of the new namespaces: the file systems that a systemd in a container wants to find, then systemd itself.
machine() {
  mount --make-rprivate /
  overlay
  for pair in "$@"; do mount --rbind "${pair%%:*}" "$root/${pair#*:}"; done
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup" 2>/dev/null || true # gone already where sysfs has no such place
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
  done
  mkdir "$root"/dev/{pts,shm}
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  mount -t tmpfs tmpfs "$root/dev/shm"
  ln -s /proc/self/fd "$root/dev/fd"
  for number in 0 1 2; do ln -s "fd/$number" "$root/dev/$(cut -d' ' -f$((number + 1)) <<<'stdin stdout stderr')"; done
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  cd "$root"
  pivot_root . old-root
  cd /
  umount -l /old-root
  mount --make-rshared /
  exec env -i container=tests PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal --show-status=0
}
export -f machine overlay
export directory

echo $$ >"$cgroup/cgroup.procs"
while :; do
  # The kernel ends PID 1 of a namespace with SIGHUP for a reboot, with SIGINT for a power-off (reboot(2)).
  status=0
  unshare --mount --pid --fork --kill-child --cgroup --uts --ipc bash -euc 'machine "$@"' machine "$@" </dev/null || status=$?
  [ "$status" = 129 ] || exit "$status"
done
