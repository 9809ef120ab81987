#!/bin/sh
# Whether what the package brings runs: its services start and stay, its programs do not die by a signal.
. "$(dirname "$0")/../lib.sh"
# The most programs that are run.
programs_max=100
bad=0 ran=0
wrong() {
    say "not ok: $*"
    bad=$((bad + 1))
}

# A signal that says that the program is broken: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
died() {
    case $1 in
        132 | 133 | 134 | 135 | 136 | 139 | 159) return 0 ;;
        *) return 1 ;;
    esac
}

if [ -n "$TASKBOT_INPUT_COMMAND" ]; then
    say "-- $TASKBOT_INPUT_COMMAND"
    timeout -k 5 600 sh -c "$TASKBOT_INPUT_COMMAND" </dev/null
    code=$?
    [ "$code" = 0 ] || wrong "it ended with $code"
    exit $((bad != 0))
fi
files >"$state/files"
while IFS= read -r file; do
    case $file in
        */systemd/system/*@.service) ;;
        */systemd/system/*.service)
            unit=${file##*/}
            if [ ! -d /run/systemd/system ]; then
                say "-- $unit is not started: no systemd runs here"
                continue
            fi
            ran=$((ran + 1))
            systemctl start "$unit" || wrong "$unit does not start"
            sleep 3
            # One that has done its work is as good as one that goes on.
            if systemctl is-failed -q "$unit"; then
                wrong "$unit has failed"
                systemctl status --no-pager "$unit"
            fi
            ;;
        /bin/* | /sbin/* | /usr/bin/* | /usr/sbin/* | /usr/local/bin/* | /usr/games/*)
            [ -f "$file" ] && [ -x "$file" ] && [ "$ran" -lt "$programs_max" ] || continue
            ran=$((ran + 1))
            timeout -k 2 10 "$file" --version </dev/null >"$state/said" 2>&1
            code=$?
            case $code in
                126 | 127)
                    wrong "$file cannot be run ($code): $(head -n 3 "$state/said")"
                    ;;
                *)
                    if died "$code"; then
                        wrong "$file dies by signal $((code - 128))"
                    else
                        say "-- $file ran ($code): $(head -n 1 "$state/said")"
                    fi
                    ;;
            esac
            ;;
    esac
done <"$state/files"
if [ "$ran" = 0 ]; then
    say "the package has no programs, and no services that can be started here"
    exit 77
fi
[ "$bad" = 0 ]
