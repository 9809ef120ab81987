#!/bin/sh
# Makes sure that the Python bindings of libsolv and RPM are there. Needs a network and root only when they are not.
set -eu

if sh ./python.sh solv,rpm -c pass 2>/dev/null; then
    exit 0
elif command -v dnf >/dev/null 2>&1; then
    dnf -y --setopt=install_weak_deps=False install python3 python3-solv python3-rpm
elif command -v apt-get >/dev/null 2>&1; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-solv python3-rpm
else
    echo "prepare.sh: python3-solv or python3-rpm is missing, and neither dnf nor apt-get is here to install them" >&2
    exit 2
fi
