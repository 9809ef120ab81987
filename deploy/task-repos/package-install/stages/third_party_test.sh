#!/bin/sh
# Runs one third-party test, in its folder, by what its name ends with, or its first line says.
. "$(dirname "$0")/../lib.sh"
folder=$1 file=$2
cd "$folder" || exit 1
printf '%s\n' "$TASKBOT_INPUT_TEST_ENV" >"$state/env"
while IFS= read -r line; do
    case $line in
        [A-Za-z_]*=*) export "${line%%=*}=${line#*=}" ;;
    esac
done <"$state/env"
export PACKAGE_NAME="$package" PACKAGE_VERSION="$TASKBOT_INPUT_VERSION"

by_first_line() {
    first=$(head -n 1 "$file" | LC_ALL=C tr -d '\000')
    case $first in
        '#!'*)
            # shellcheck disable=SC2086
            set -- ${first#'#!'}
            exec "$@" "./$file"
            ;;
    esac
}
by_shell() { if has bash; then exec bash "./$file"; else exec sh "./$file"; fi; }
get() {
    need "$@" || {
        say "no $1 can be had here"
        exit 127
    }
}

case $file in
    *.sh | *.bash) by_shell ;;
    *.bats)
        get bats
        exec bats --tap "./$file"
        ;;
    *.py)
        get python3
        by_first_line
        exec python3 "./$file"
        ;;
    *.yml | *.yaml)
        get ansible-playbook ansible ansible-core
        exec ansible-playbook -i localhost, -c local "./$file"
        ;;
    *)
        by_first_line
        by_shell
        ;;
esac
