#!/bin/sh
# Makes sure that Coccinelle and unpackers are there. Needs a network and root only when they are not.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

if have spatch && have python3 && have rpm2cpio && have cpio; then
    exit 0
elif have dnf; then
    dnf -y --setopt=install_weak_deps=False install coccinelle python3 python3-libs rpm cpio tar xz
elif have apt-get; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        coccinelle libpython3-stdlib python3 rpm2cpio cpio xz-utils
else
    echo "prepare.sh: spatch, python3, rpm2cpio or cpio is missing, and neither dnf nor apt-get is here to install them" >&2
    exit 2
fi
