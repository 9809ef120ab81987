#!/bin/sh
# The first process of a machine that was given a kernel and an initial RAM disk.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# Emulated, every program that is started takes its time: what can be is done by one. The folders came with this file.
mount -t devtmpfs devtmpfs /dev 2>/dev/null
cp -a /taskbot/dev / 2>/dev/null
mount -a -T /taskbot/fstab 2>/dev/null
[ -e /proc/mounts ] || while read -r what where type options rest; do mount -t "$type" "$what" "$where"; done </taskbot/fstab
ip link set lo up 2>/dev/null
# In the order of their dependencies; what the kernel has built in is missing here, and not missed. Looked for once.
there=$(find /lib/modules -name "*.ko*" -o -name modules.dep 2>/dev/null)
for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_mmio virtio_blk \
  virtio_console failover net_failover virtio_net; do
  case $there in *"/$m.ko"*) ;; *) continue ;; esac
  case $there in */modules.dep*) modprobe "$m" 2>/dev/null ;; esac
  [ ! -d "/sys/module/$m" ] || continue
  for f in $there; do
    case $f in *"/$m.ko"*) insmod "$f" 2>/dev/null && break ;; esac
  done
done
echo taskbot 2>/dev/null >/proc/sys/kernel/hostname
n=0
until [ -d /sys/class/virtio-ports ] && sh /taskbot/agent; do
  n=$((n + 1))
  [ "$n" -lt 100 ] || { echo "taskbot: no virtio ports: the kernel lacks virtio_pci, virtio_blk or virtio_console"; break; }
  sleep 0.1 2>/dev/null || sleep 1
done
sync
poweroff -f
