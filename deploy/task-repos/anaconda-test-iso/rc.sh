#!/bin/sh
# What the installed system does when it comes up.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -o remount,rw /
for module in $(cat /etc/modules); do
    modprobe "$module" 2>/dev/null
done
hostname "$(cat /etc/hostname)"
ip link set lo up
echo "BOOTED-FROM-DISK $(hostname)"
