#!/bin/sh
# Runs inside of the system that was installed and booted from its disk: is it what the answers asked for?
# Writes results.tap into $TASKBOT_OUTPUT; exits 0, or 1 if a check failed.
set -u

results=$TASKBOT_OUTPUT/results.tap
count=0
failed=0

# point TEXT COMMAND… : ok when the command succeeds
point() {
    text=$1
    shift
    count=$((count + 1))
    if why=$("$@" 2>&1); then
        echo "ok $count - $text" >> "$results"
    else
        failed=1
        {
            echo "not ok $count - $text"
            echo "  ---"
            printf '%s\n' "${why:-$*}" | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/  message: "/; s/$/"/; q'
            echo "  ..."
        } >> "$results"
    fi
}

is() { [ "$1" = "$2" ] || { echo "expected '$2', found '$1'"; return 1; }; }
has() { grep -q -e "$2" "$1" || { echo "$1 does not hold $2: $(head -c 200 "$1" | tr '\n' ' ')"; return 1; }; }
root_device() { sed -n 's,^\([^ ]*\) / .*,\1,p' /proc/mounts | tail -n 1; }
# The end of the console's log of this boot tells what the kernel thinks of it.
# That processors had to wait is the worker's doing: its machines may be emulated.
kernel_is_well() { ! dmesg | grep -E 'BUG:|Oops|Kernel panic|I/O error' | grep -v 'soft lockup' || return 1; }
packages_are_there() { [ -s /usr/share/test-iso/packages ] || { echo "the medium brought no package of the update"; return 1; }; }

echo "TAP version 14" > "$results"
point "the system booted from its disk" has /proc/cmdline 'root=/dev/'
point "the boot loader passes on what the answers say" has /proc/cmdline 'install-test=1'
point "the root file system is on the disk" is "$(root_device | sed 's,[0-9p]*$,,; s,^/dev/\(vd\|sd\|nvme\).*,disk,')" disk
point "the root file system can be written" sh -c 'echo x > /root/written && sync && rm /root/written'
point "the release is right" has /etc/os-release "VERSION_ID=\"*${TASKBOT_INPUT_RELEASE#F}\|VERSION_ID=\"*$TASKBOT_INPUT_RELEASE"
point "the host's name is that of the answers" is "$(hostname)" install-test
point "%post ran" is "$(cat /root/install-test)" "installed by these answers"
point "the kernel has nothing to complain about" kernel_is_well
if [ -n "${TASKBOT_INPUT_UPDATE:-}" ]; then
    point "the medium was made for the update" has /etc/test-iso "update=$TASKBOT_INPUT_UPDATE"
    point "the update's packages are installed" packages_are_there
fi
echo "1..$count" >> "$results"
cat "$results"
exit "$failed"
