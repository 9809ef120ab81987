#!/bin/sh
# The stages, in their order; what came of each is left in the output folder: a log for each, `result.json` with all,
# and `results.tap`. Ends with something else than 0 only when nothing can be said of the package.
. "$(dirname "$0")/lib.sh"

mkdir -p "$state" "$TASKBOT_OUTPUT"
started=$(date +%s)
: >"$state/stats"
: >"$state/top"
: >"$state/tests"
: >"$state/third_party"
: >"$state/skipped"
: >"$state/tap"

iso() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%S 2>/dev/null || date -u -r "$1" +%Y-%m-%dT%H:%M:%S; }

# stage WHERE NAME SECONDS COMMAND…: runs it, within its time. Exit code 77 means that it does not apply here.
stage() {
    where=$1 name=$2 seconds=$3
    shift 3
    log=$TASKBOT_OUTPUT/$name.log
    say "=== $name"
    begin=$(date +%s)
    timeout -k 10 "$seconds" "$@" >"$log" 2>&1 </dev/null
    code=$?
    finish=$(date +%s)
    cat "$log"
    if [ "$code" = 124 ]; then
        say "it took longer than $seconds s" | tee -a "$log"
        code=408
    fi
    success=false verdict="not ok"
    case $code in
        0) success=true verdict=ok ;;
        77)
            reason=$(tail -n 1 "$log")
            printf 'ok - %s # SKIP %s\n' "$name" "$reason" >>"$state/tap"
            printf '%s: %s\n' "$name" "$reason" >>"$state/skipped"
            return 0
            ;;
    esac
    # A test that speaks TAP says more than its exit code.
    if [ "$where" = third_party ] && [ "$code" -lt 126 ] && grep -Eq '^1\.\.[0-9]+' "$log"; then
        if sh "$here/tap.sh" "$log"; then success=true verdict=ok; else success=false verdict="not ok"; fi
    fi
    {
        printf '%s' "\"$name\": {\"success\": $success, \"exit_code\": $code, \"output\": "
        json_text <"$log"
        printf '},\n'
    } >>"$state/$where"
    printf '"%s": {"start_ts": "%s", "finish_ts": "%s", "delta": %s},\n' \
        "$name" "$(iso "$begin")" "$(iso "$finish")" "$((finish - begin))" >>"$state/stats"
    printf '%s - %s\n' "$verdict" "$name" >>"$state/tap"
    [ "$success" = true ]
}

skip() {
    printf '%s: %s\n' "$1" "$2" >>"$state/skipped"
    printf 'ok - %s # SKIP %s\n' "$1" "$2" >>"$state/tap"
}

# Entries without their last comma.
entries() { sed -e '$s/,$//' "$1"; }

finish() {
    {
        printf '{"skipped_tests": ['
        sep=
        while IFS= read -r line; do
            printf '%s' "$sep"
            printf '%s' "$line" | json_text | sed -e 's/\\n"$/"/'
            sep=', '
        done <"$state/skipped"
        printf '],\n'
        cat "$state/top"
        printf '"tests": {\n'
        entries "$state/tests"
        printf '},\n"third_party": {\n'
        entries "$state/third_party"
        printf '},\n"stats": {\n'
        cat "$state/stats"
        printf '"started_at": "%s"}}\n' "$(iso "$started")"
    } >"$TASKBOT_OUTPUT/result.json"
    count=$(grep -c . "$state/tap")
    {
        say "TAP version 13"
        say "1..$count"
        n=0
        while IFS= read -r line; do
            n=$((n + 1))
            case $line in
                "not ok - "*) say "not ok $n ${line#not ok }" ;;
                *) say "ok $n ${line#ok }" ;;
            esac
        done <"$state/tap"
    } >"$TASKBOT_OUTPUT/results.tap"
    exit "${1:-0}"
}

cd "$here" || exit 3
if [ "$family" = none ]; then
    say "this system has neither apt-get with dpkg nor rpm"
    finish 3
fi
# What is before the package says nothing of it: an error of the machinery.
stage top initial_provision 600 sh stages/initial_provision.sh || finish 3
stage top system_info 300 sh stages/system_info.sh || finish 3
if ! stage top install_package 1800 sh stages/install_package.sh; then
    for name in package_integrity_tests launch_tests third_party_tests uninstall_package; do
        skip "$name" "the package is not installed"
    done
    finish 0
fi
stage tests package_integrity_tests 1800 sh stages/integrity.sh
stage tests launch_tests 1800 sh stages/launch.sh
sh stages/third_party.sh >"$state/third_party.list" 2>"$state/third_party.why" || {
    cat "$state/third_party.why"
    stage third_party third_party_tests_wrapper 60 sh -c 'cat "$1"; exit 1' sh "$state/third_party.why"
}
while IFS='	' read -r name folder file; do
    [ -n "$file" ] || continue
    stage third_party "third_party_test_$name" 1800 sh stages/third_party_test.sh "$folder" "$file"
done <"$state/third_party.list"
stage top uninstall_package 600 sh stages/uninstall_package.sh
finish 0
