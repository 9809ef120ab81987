#!/bin/sh
# Makes vmlinuz and initrd of a kernel's packages.
#   reads   kernel/* busybox/* (fetched), the worker's own static busybox
#   writes  vmlinuz and initrd into $TASKBOT_OUTPUT
# Exits 0, or 2 when nothing can be made of them.
set -eu

here=$(pwd)
build=$here/build
. ./lib.sh

rm -rf "$build"
mkdir -p "$build"
find_kernel
find_busybox
modules="$modules $(sed 's/#.*//' test-modules)"
base "$build/initrd"
printf '%s\n' "$version" > "$build/initrd/etc/kernel-under-test"
printf '%s\n' "$TASKBOT_INPUT_NVR" > "$build/initrd/etc/kernel-build"
cp "$vmlinuz" "$TASKBOT_OUTPUT/vmlinuz"
(cd "$build/initrd" && find . | sort | cpio -o -H newc --quiet --owner=0:0 --reproducible) | gzip -n > "$TASKBOT_OUTPUT/initrd"
echo "kernel $version for $TASKBOT_INPUT_ARCH"
ls -l "$TASKBOT_OUTPUT"
