#!/bin/sh
# Runs inside of the system that is to be upgraded: notes how it is, installs the build, has it prepare the upgrade, and
# reboots into it. check.sh runs after that.
# Writes results.tap into $TASKBOT_OUTPUT; exits 1 when the build cannot even begin, 2 when the machine is not fit.
set -u

. ./lib.sh

begin
before=$(version_of)
[ "$before" = "${TASKBOT_INPUT_RELEASE#F}" ] || {
    echo "this system is release $before, not ${TASKBOT_INPUT_RELEASE#F}: the worker has the wrong image" >&2
    exit 2
}
state > before
install_packages() {
    if command -v dnf > /dev/null; then
        dnf -y install ./packages/*.rpm
    elif busybox rpm --help > /dev/null 2>&1; then
        for package in ./packages/*.rpm; do (cd / && busybox rpm -i "$OLDPWD/$package") || return 1; done
    else
        rpm -U ./packages/*.rpm
    fi
}
point "the build can be installed" install_packages
medium=$(ls media/*.iso 2>/dev/null | head -n 1)
if [ -n "$medium" ]; then source="--iso $(pwd)/$medium"; else source="--network ${TASKBOT_INPUT_TARGET#F}"; fi
# shellcheck disable=SC2086 # two words
point "the upgrade is prepared" fedup $source
[ "$failed" -eq 0 ] || end
keep
sync
reboot
# Nothing goes on here.
sleep 600
