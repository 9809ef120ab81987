#!/bin/sh
# The first process of a machine that was given a kernel and an initial RAM disk.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# Emulated, whatever is done for the first time takes its time, and every program that is started: what can be is done
# by one, and what may not be needed later. The folders came with this file.
mount -t devtmpfs devtmpfs /dev 2>/dev/null
cp -a /taskbot/dev / 2>/dev/null
mount -a -T /taskbot/fstab 2>/dev/null
[ -e /proc/mounts ] || while read -r what where type options rest; do mount -t "$type" "$what" "$where"; done </taskbot/fstab
ifconfig lo up 2>/dev/null || ip link set lo up 2>/dev/null
echo taskbot 2>/dev/null >/proc/sys/kernel/hostname

# Loads drivers. What the kernel has built in is missing below /lib/modules, and not missed.
taskbot_load() {
  for known in /lib/modules/*/modules.dep; do
    [ -e "$known" ] && modprobe -a "$@" 2>/dev/null && return
  done
  # Where nothing says what needs what: in the order of their dependencies.
  there=$(find /lib/modules -name "*.ko*" 2>/dev/null)
  for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev "$@"; do
    case $there in *"/$m.ko"*) ;; *) continue ;; esac
    [ ! -d "/sys/module/$m" ] || continue
    for f in $there; do
      case $f in *"/$m.ko"*) insmod "$f" 2>/dev/null && break ;; esac
    done
  done
}

read -r drivers </taskbot/drivers
taskbot_load $drivers
# What scripts and files of any size come and go by is loaded when it is needed first. Its driver stays open until then:
# a task may have removed it.
for f in /lib/modules/virtio_blk.ko* /lib/modules/*/kernel/drivers/block/virtio_blk.ko*; do
  [ ! -e "$f" ] || exec 9<"$f"
done
taskbot_disks() {
  taskbot_load virtio_blk
  [ -d /sys/module/virtio_blk ] || insmod /proc/self/fd/9 2>/dev/null
}

n=0
until [ -d /sys/class/virtio-ports ] && (. /taskbot/agent); do
  n=$((n + 1))
  [ "$n" -lt 100 ] || { echo "taskbot: no virtio ports: the kernel lacks virtio_pci or virtio_console"; break; }
  sleep 0.1 2>/dev/null || sleep 1
done
sync
poweroff -f
