#!/bin/sh
# Fetches the repositories of third-party tests. Says what is to be run, a line each: name, folder and file, divided by
# tabs. A folder or a chosen test that is not there is a mistake.
. "$(dirname "$0")/../lib.sh"
export GIT_TERMINAL_PROMPT=0
[ -n "$TASKBOT_INPUT_TESTS" ] || exit 0
wrong() {
    say "$*" >&2
    exit 1
}
need git git git-core >"$state/need.log" 2>&1 || {
    cat "$state/need.log" >&2
    wrong "no git can be had here"
}

fetch() {
    git init -q "$into" && git -C "$into" remote add origin "$url" || return 1
    for try in 1 2 3 4 5; do
        # A part of the history is enough, where the server gives it.
        if git -C "$into" fetch -q --depth 1 origin "${ref:-HEAD}" 2>"$state/git.why"; then
            git -C "$into" checkout -q FETCH_HEAD
            return
        fi
        if git -C "$into" fetch -q origin '+refs/*:refs/remotes/all/*' 2>>"$state/git.why"; then
            git -C "$into" checkout -q --detach "${ref:-HEAD}" 2>>"$state/git.why" && return 0
            return 1
        fi
        sleep "$try"
    done
    return 1
}

printf '%s\n' "$TASKBOT_INPUT_TESTS" >"$state/wanted"
number=0
tab=$(printf '\t')
while IFS= read -r line; do
    [ -n "$line" ] || continue
    number=$((number + 1))
    # `read` with a tab takes several as one: an empty field needs another way.
    url=${line%%"$tab"*} rest=
    case $line in *"$tab"*) rest=${line#*"$tab"} ;; esac
    ref=${rest%%"$tab"*}
    case $rest in *"$tab"*) rest=${rest#*"$tab"} ;; *) rest= ;; esac
    folder=${rest%%"$tab"*}
    case $rest in *"$tab"*) chosen=${rest#*"$tab"} ;; *) chosen= ;; esac
    into=$state/tests-$number
    rm -rf "$into"
    fetch || wrong "$url at ${ref:-HEAD} cannot be fetched: $(cat "$state/git.why")"
    case /$folder/ in */../*) wrong "the folder $folder leads out of $url" ;; esac
    place=$into/${folder#/}
    [ -d "$place" ] || wrong "$url has no folder $folder"
    if [ -n "$chosen" ]; then
        printf '%s\n' "$chosen" | tr ',' '\n' >"$state/chosen"
        while IFS= read -r file; do
            case /$file/ in */../*) wrong "the test $file leads out of $url" ;; esac
            [ -f "$place/$file" ] || wrong "$url has no test $file in ${folder:-its folder}"
        done <"$state/chosen" || exit 1
    else
        (cd "$place" && find . -maxdepth 1 -type f ! -name '.*' ! -name 'README*' ! -name '*.md' ! -name 'LICENSE*' |
            sed 's|^\./||' | LC_ALL=C sort) >"$state/chosen"
    fi
    [ -s "$state/chosen" ] || wrong "$url has no tests in ${folder:-its folder}"
    # What sets things up goes first.
    for pattern in '^0_init' '^0_install' ''; do
        while IFS= read -r file; do
            case $file in
                0_init*) kind='^0_init' ;;
                0_install*) kind='^0_install' ;;
                *) kind= ;;
            esac
            [ "$kind" = "$pattern" ] || continue
            name=$(printf '%s' "$file" | tr -c 'A-Za-z0-9._-' '_')
            printf '%s\t%s\t%s\n' "$name" "$place" "$file"
        done <"$state/chosen"
    done
done <"$state/wanted"
