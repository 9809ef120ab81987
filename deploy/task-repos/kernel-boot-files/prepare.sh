#!/bin/sh
# Makes sure that package tools and BusyBox are there. Needs a network and root only when they are not.
set -eu

missing=
for program in cpio rpm2cpio busybox ar; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -z "$missing" ]; then
    exit 0
elif command -v dnf >/dev/null 2>&1; then
    dnf -y --setopt=install_weak_deps=False install cpio rpm busybox binutils xz zstd gzip
elif command -v apt-get >/dev/null 2>&1; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        cpio rpm2cpio busybox-static binutils xz-utils zstd
else
    echo "prepare.sh: missing:$missing, and neither dnf nor apt-get is here to install them" >&2
    exit 2
fi
