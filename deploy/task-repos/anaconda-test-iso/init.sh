#!/bin/sh
# The first process, of the installer and of the installed system: finds the disks, then installs or goes on to them.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox mkdir -p /proc /sys /dev /mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec < /dev/console > /dev/console 2>&1
for module in $(cat /etc/modules); do
    modprobe "$module" 2>/dev/null
done
case " $(cat /proc/cmdline) " in
    *" test-iso.install "*) exec /bin/install-system ;;
esac
root=$(sed -n 's/.*root=\([^ ]*\).*/\1/p' /proc/cmdline)
tries=0
until mount -t ext4 "$root" /mnt 2>/dev/null || mount "$root" /mnt 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "init: cannot mount $root"; poweroff -f; }
    sleep 0.2
done
mount --move /dev /mnt/dev
umount /sys /proc
exec switch_root /mnt /sbin/init
