#!/bin/sh
# Makes sure that libsolv's Python bindings are there. Needs a network and root only when they are not.
set -eu

if sh ./python.sh solv -c pass 2>/dev/null; then
    exit 0
elif command -v dnf >/dev/null 2>&1; then
    dnf -y --setopt=install_weak_deps=False install python3 python3-solv
elif command -v apt-get >/dev/null 2>&1; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-solv
else
    echo "prepare.sh: python3-solv is missing, and neither dnf nor apt-get is here to install it" >&2
    exit 2
fi
