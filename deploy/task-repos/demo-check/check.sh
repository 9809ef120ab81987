#!/bin/sh
# Checks what an update says about one of its builds; needs only a POSIX shell and its usual small tools.
#   prepare  makes the list of phrases that say nothing
#   run      writes results.tap and report.txt into $TASKBOT_OUTPUT; exits 0, or 1 if a check failed
#   cleanup  removes the list
set -eu

phrases=build/phrases

prepare() {
    mkdir -p build
    cat > "$phrases" <<'END'
^ *$
^ *(todo|tbd|fixme|n/a|none|no notes|update) *[.!]?$
^ *(here is where you|enter your|please describe)
^ *(bump|rebuild|new version|latest version|upstream release|misc fixes) *[.!]?$
END
    # `prepare` may be another user than `run` and `cleanup`.
    chmod -R a+rwX build
    echo "prepared: $(wc -l < "$phrases") phrases that say nothing"
}

# point TEXT COMMAND… : a test point that is ok when the command succeeds
point() {
    text=$1
    shift
    count=$((count + 1))
    if why=$("$@" 2>&1); then
        echo "    ok $count - $text"
    else
        echo "    not ok $count - $text"
        echo "      ---"
        printf '%s\n' "$why" | sed 's/^/      /'
        echo "      ..."
        failed=1
    fi
}

# group NAME FUNCTION : a subtest with the points that the function makes
group() {
    name=$1
    count=0
    failed=0
    groups=$((groups + 1))
    echo "# Subtest: $name"
    "$2"
    echo "    1..$count"
    if [ "$failed" -eq 0 ]; then
        echo "ok $groups - $name"
    else
        echo "not ok $groups - $name"
        worst=1
    fi
}

# matches VALUE REGEX WHAT : the value is one line that matches, or it says what was expected
matches() {
    [ "$(printf '%s\n' "$1" | wc -l)" -eq 1 ] && printf '%s\n' "$1" | grep -Eq "^($2)\$" || {
        echo "message: \"expected $3\""
        echo "found: '$(printf '%s' "$1" | tr "'\\n" '  ')'"
        return 1
    }
}

nvr_checks() {
    point "splits into name, version and release" matches "$nvr" '[A-Za-z0-9][A-Za-z0-9._+-]*-[^-]+-[^-]+' 'name-version-release'
    point "version holds only characters that RPM compares" matches "$version" '[A-Za-z0-9._+~^]+' 'letters, digits and ._+~^'
    point "release starts with a number" matches "$release" '[0-9].*' 'a number first'
    point "release carries the dist tag" matches "$release" ".*\\.$dist_tag(\\..*)?" "a release such as 1.$dist_tag"
}

telling() {
    if printf '%s\n' "$notes" | head -n 1 | grep -Eiq -f "$phrases"; then
        echo 'message: "the notes say nothing; tell what changes for those who install it"'
        return 1
    fi
}

serious() {
    [ "$kind" != security ] || [ "$severity" != unspecified ] || {
        echo 'message: "a security update needs a severity"'
        return 1
    }
}

update_checks() {
    point "alias is one of the build system's" matches "$update" '[A-Z][A-Z0-9-]*-[0-9]{4}-[0-9a-f]+' 'an alias such as FEDORA-2025-0a1b2c3d4e'
    point "type is known" matches "$kind" 'bugfix|security|enhancement|newpackage' 'bugfix, security, enhancement or newpackage'
    point "notes say what changes" telling
    point "a security update says how severe it is" serious
}

run() {
    nvr=$TASKBOT_INPUT_NVR
    dist_tag=$TASKBOT_INPUT_DIST_TAG
    update=$TASKBOT_INPUT_UPDATE
    kind=$TASKBOT_INPUT_KIND
    severity=${TASKBOT_INPUT_SEVERITY:-unspecified}
    notes=${TASKBOT_INPUT_NOTES:-}
    [ -s "$phrases" ] || { echo "check.sh: prepare did not run" >&2; exit 2; }

    release=${nvr##*-}
    rest=${nvr%-*}
    version=${rest##*-}
    groups=0
    worst=0
    {
        echo "TAP version 14"
        group "the build is well-formed" nvr_checks
        group "the update tells its users enough" update_checks
        echo "1..$groups"
    } > "$TASKBOT_OUTPUT/results.tap"
    {
        echo "build    $nvr (version $version, release $release)"
        echo "update   $update, $kind, severity $severity"
        grep -E '^ *(not )?ok' "$TASKBOT_OUTPUT/results.tap"
    } | tee "$TASKBOT_OUTPUT/report.txt"
    exit "$worst"
}

cleanup() {
    rm -rf build
}

case ${1:-} in
    prepare) prepare ;;
    run) run ;;
    cleanup) cleanup ;;
    *) echo "usage: check.sh prepare|run|cleanup" >&2; exit 2 ;;
esac
