#!/bin/sh
# Runs inside of the system after its upgrade: is it the new release, and is everything there that was there before?
# Adds to results.tap in $TASKBOT_OUTPUT; exits 0, or 1 if a check failed.
set -u

. ./lib.sh

go_on
kept() {
    state > after
    lost=$(grep "^$1 " before | while read -r line; do grep -qxF -e "$line" after || echo "$line"; done)
    [ -z "$lost" ] || { echo "lost or changed: $(echo "$lost" | head -n 3 | tr '\n' ';')"; return 1; }
}
not_empty() { grep -q "^$1 " before || { echo "the image has no $1: it is not set up as $TASKBOT_INPUT_CONFIGURATION"; return 1; }; }

point "the system is the new release" is "$(version_of)" "${TASKBOT_INPUT_TARGET#F}"
point "the host's name is kept" kept hostname
point "users are kept" kept user
case $TASKBOT_INPUT_CONFIGURATION in
    server)
        point "the server has data" not_empty data
        point "the data are kept" kept data
        point "what is configured is kept" kept config ;;
    workstation)
        point "the workstation has homes" not_empty home
        point "homes are kept" kept home ;;
esac
point "the kernel has nothing to complain about" kernel_is_well
end
