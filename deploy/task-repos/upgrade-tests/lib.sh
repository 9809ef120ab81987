# What upgrade.sh and check.sh share. The count goes from one to the other through a file: there is a reboot between.

results=$TASKBOT_OUTPUT/results.tap

begin() { count=0; failed=0; echo "TAP version 14" > "$results"; }
keep() { echo "count=$count failed=$failed" > progress; }
go_on() { . ./progress; }
end() { echo "1..$count" >> "$results"; exit "$failed"; }

# point TEXT COMMAND… : ok when the command succeeds
point() {
    text=$1
    shift
    count=$((count + 1))
    if "$@" > point.log 2>&1; then
        echo "ok $count - $text" >> "$results"
        echo "ok: $text"
    else
        failed=1
        echo "NOT ok: $text: $(tail -n 3 point.log)"
        {
            echo "not ok $count - $text"
            echo "  ---"
            tail -n 1 point.log | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/  message: "/; s/$/"/'
            echo "  ..."
        } >> "$results"
    fi
}

is() { [ "$1" = "$2" ] || { echo "expected '$2', found '$1'"; return 1; }; }
version_of() { sed -n 's/^VERSION_ID="*F*\([^"]*\)"*$/\1/p' /etc/os-release; }
sums() { for folder in $2; do [ -d "$folder" ] && find "$folder" -type f -size -1024k | sort | head -n 500 | xargs -r sha256sum; done | sed "s/^/$1 /"; }

# What an upgrade must not touch, a line each.
state() {
    echo "hostname $(hostname)"
    cut -d: -f1,3,6 /etc/passwd | sed 's/^/user /'
    sums home /home
    sums data /srv
    sums config /usr/local/etc
}

# That processors had to wait, and what was traced then, is the worker's doing: its machines may be emulated.
kernel_is_well() {
    dmesg > "$TASKBOT_OUTPUT/dmesg.txt"
    ! grep -E 'BUG:|Oops|Kernel panic|general protection fault|I/O error' "$TASKBOT_OUTPUT/dmesg.txt" | grep -v 'soft lockup'
}
