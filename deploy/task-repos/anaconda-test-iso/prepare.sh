#!/bin/sh
# Makes sure that GRUB's, ISO and package tools are there. Needs a network and root only when they are not.
set -eu

missing=
for program in grub-mkrescue grub-mkimage xorriso mformat cpio rpm2cpio; do
    command -v "$program" >/dev/null 2>&1 || command -v "grub2-${program#grub-}" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -z "$missing" ]; then
    exit 0
elif command -v dnf >/dev/null 2>&1; then
    dnf -y --setopt=install_weak_deps=False install grub2-tools-extra grub2-pc-modules xorriso mtools cpio rpm binutils \
        xz zstd gzip busybox
elif command -v apt-get >/dev/null 2>&1; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        grub-common grub-pc-bin xorriso mtools cpio rpm2cpio busybox-static xz-utils zstd
else
    echo "prepare.sh: missing:$missing, and neither dnf nor apt-get is here to install them" >&2
    exit 2
fi
