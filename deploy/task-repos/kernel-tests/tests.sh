#!/bin/sh
# Runs inside of the machine that booted the kernel under test. Needs BusyBox.
# Writes results.tap and dmesg.txt into $TASKBOT_OUTPUT; exits 0, or 1 if a test failed.
set -u

results=$TASKBOT_OUTPUT/results.tap
space=/tmp/kernel-tests
count=0
failed=0

# point TEXT COMMAND… : ok when the command succeeds
point() {
    text=$1
    shift
    count=$((count + 1))
    if why=$("$@" 2>&1); then
        echo "ok $count - $text" >> "$results"
        echo "ok: $text"
    else
        failed=1
        echo "NOT ok: $text: $why"
        {
            echo "not ok $count - $text"
            echo "  ---"
            printf '%s\n' "${why:-$*}" | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/  message: "/; s/$/"/; q'
            echo "  ..."
        } >> "$results"
    fi
}

is() { [ "$1" = "$2" ] || { echo "expected '$2', found '$1'"; return 1; }; }

machine() {
    case $TASKBOT_INPUT_ARCH in
        i386 | i686) uname -m | grep -q '^i[3-6]86$' ;;
        *) is "$(uname -m)" "$TASKBOT_INPUT_ARCH" ;;
    esac
}

processes() {
    i=0
    while [ "$i" -lt 200 ]; do
        (exit 0) &
        i=$((i + 1))
    done
    wait
    sh -c 'kill -9 $$' 2>/dev/null
    is "$?" 137
}

memory() {
    # More than a page table's worth, written and read back.
    dd if=/dev/urandom of="$space/memory" bs=1M count=32 2>/dev/null || return 1
    is "$(sha256sum < "$space/memory")" "$(cat "$space/memory" | sha256sum)"
}

clock() {
    one=$(cut -d. -f1 /proc/uptime)
    sleep 2
    two=$(cut -d. -f1 /proc/uptime)
    [ $((two - one)) -ge 1 ] && [ $((two - one)) -le 60 ] || { echo "2 s of sleep took $((two - one)) s"; return 1; }
}

cpus() { is "$(grep -c '^processor' /proc/cpuinfo)" "$(nproc)" && [ "$(nproc)" -ge 1 ]; }

file_system() {
    dd if=/dev/zero of="$space/disk" bs=1M count=16 2>/dev/null
    mke2fs -F "$space/disk" > "$space/mke2fs" 2>&1 || { tail -n 1 "$space/mke2fs"; return 1; }
    mkdir -p "$space/mnt"
    mount -t ext4 -o loop "$space/disk" "$space/mnt" || return 1
    dd if=/dev/urandom of="$space/mnt/data" bs=64k count=40 2>/dev/null
    sum=$(sha256sum < "$space/mnt/data")
    umount "$space/mnt" && mount -t ext4 -o loop "$space/disk" "$space/mnt" || return 1
    echo 3 > /proc/sys/vm/drop_caches
    again=$(sha256sum < "$space/mnt/data")
    umount "$space/mnt"
    is "$again" "$sum"
}

network() {
    ping -c 2 -W 5 127.0.0.1 > /dev/null || { echo "loopback does not answer"; return 1; }
    (printf 'answer' | nc -l -p 7777 -w 5 > /dev/null) &
    sleep 1
    is "$(nc -w 5 127.0.0.1 7777 < /dev/null)" answer
}

modules() {
    wrong=
    for file in $(find "/lib/modules/$(uname -r)" -name '*.ko'); do
        name=$(basename "$file" .ko)
        modprobe "$name" 2> "$space/modprobe" || wrong="$wrong $name ($(head -n 1 "$space/modprobe"))"
    done
    [ -z "$wrong" ] || { echo "cannot be loaded:$wrong"; return 1; }
}

entropy() { [ "$(head -c 16 /dev/urandom | wc -c)" -eq 16 ]; }

kernel_is_well() {
    dmesg > "$TASKBOT_OUTPUT/dmesg.txt"
    # Its own settings speak of stalls, too.
    ! grep -E 'BUG:|Oops|Call Trace:|Kernel panic|WARNING: CPU|general protection fault|soft lockup|rcu.*stall' "$TASKBOT_OUTPUT/dmesg.txt" |
        grep -Ev 'ommand line:|stall warnings timeout set' || return 1
}

mkdir -p "$space"
mount -t tmpfs -o size=160m tmpfs "$space"
echo "TAP version 14" > "$results"
point "the kernel that runs is the one under test" is "$(uname -r)" "$(cat /etc/kernel-under-test)"
point "the files are of the build" is "$(cat /etc/kernel-build)" "$TASKBOT_INPUT_NVR"
point "the machine has the architecture" machine
point "all processors are up" cpus
point "processes start, end and are killed" processes
point "memory holds what is written into it" memory
point "time passes" clock
point "random numbers come" entropy
point "all modules can be loaded" modules
point "a file system keeps its data" file_system
point "the loopback network carries data" network
point "the kernel has nothing to complain about" kernel_is_well
echo "1..$count" >> "$results"
umount "$space"
exit "$failed"
