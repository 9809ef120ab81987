# What all stages share. Sourced by main.sh and by each stage.
# shellcheck shell=sh disable=SC2034

here=$(cd "$(dirname "$0")" && pwd)
case $here in */stages) here=${here%/stages} ;; esac
state=$TASKBOT_WORK/.package-install
package=$TASKBOT_INPUT_PACKAGE

has() { command -v "$1" >/dev/null 2>&1; }

# rpm or deb: what this system's packages are.
if has dpkg-query && has apt-get; then
    family=deb
    export DEBIAN_FRONTEND=noninteractive
elif has rpm; then
    family=rpm
else
    family=none
fi
for manager in dnf5 dnf yum microdnf none; do
    has "$manager" && break
done

say() { printf '%s\n' "$*"; }

# Installs what a test needs and the system has not; says no when it cannot be had.
need() {
    has "$1" && return 0
    say "-- installing ${2:-$1}, which a test needs"
    case $family in
        deb) apt-get -y -q install --no-install-recommends "${2:-$1}" ;;
        rpm) "$manager" -y install "${3:-${2:-$1}}" ;;
        *) return 1 ;;
    esac
    has "$1"
}

# The files of the package that should be there, a line each.
files() {
    case $family in
        deb) dpkg-query -L "$package" ;;
        # Not those that only belong to it, and not those that the system did not want (documentation).
        rpm) rpm -q --qf '[%{FILESTATES} %{FILEFLAGS:fflags} %{FILENAMES}\n]' "$package" |
            sed -n -e '/^0 [^ ]*g/d' -e 's/^0 [^ ]* //p' ;;
    esac
}

is_elf() { [ -f "$1" ] && [ ! -L "$1" ] && [ "$(head -c 4 "$1" 2>/dev/null | tail -c 3)" = ELF ]; }

# Standard input as a JSON text: its end, when it is long.
json_text() {
    printf '"'
    tail -c 65536 | LC_ALL=C tr -d '\000-\010\013\014\016-\037\177' |
        LC_ALL=C sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' -e 's/\r/\\r/g' -e 's/$/\\n/' | tr -d '\n'
    printf '"'
}
