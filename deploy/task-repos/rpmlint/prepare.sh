#!/bin/sh
# Makes sure that rpmlint and python3 are there. Needs a network and root only when they are not.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

if have rpmlint && have python3; then
    exit 0
elif have dnf; then
    dnf -y --setopt=install_weak_deps=False install rpmlint python3
elif have apt-get; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rpmlint rpm python3
else
    echo "prepare.sh: rpmlint or python3 is missing, and neither dnf nor apt-get is here to install them" >&2
    exit 2
fi
