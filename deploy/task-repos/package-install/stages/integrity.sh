#!/bin/sh
# Whether the package is whole: files and links are there, programs find their libraries, and look for none in places
# that anybody can write to.
. "$(dirname "$0")/../lib.sh"
export LC_ALL=C
bad=0
wrong() {
    say "not ok: $*"
    bad=$((bad + 1))
}

# What the system does not unpack: documentation, on small images.
is_left_out() {
    [ "$family" = deb ] || return 1
    cat /etc/dpkg/dpkg.cfg /etc/dpkg/dpkg.cfg.d/* 2>/dev/null | sed -n 's/^path-exclude[ =]*//p' >"$state/left-out"
    while IFS= read -r pattern; do
        # shellcheck disable=SC2254
        case $1 in
            $pattern | ${pattern%/\*}) return 0 ;;
        esac
    done <"$state/left-out"
    return 1
}

files >"$state/files"
count=0
: >"$state/elf"
while IFS= read -r file; do
    case $file in
        */.build-id | */.build-id/* | */debug/* | *.debug | /. | "(contains no files)" | "") continue ;;
        # Where a file of another package was moved to: not a file of its own.
        "package diverts others to: "* | "locally diverted to: "* | "diverted by "*) continue ;;
    esac
    count=$((count + 1))
    if [ -L "$file" ]; then
        [ -e "$file" ] || wrong "$file leads to $(readlink "$file"), which is not there"
    elif [ ! -e "$file" ]; then
        is_left_out "$file" || wrong "$file is not there"
    elif is_elf "$file"; then
        say "$file" >>"$state/elf"
    fi
done <"$state/files"
say "-- $count files and links were looked at"

while IFS= read -r file; do
    missing=$(ldd "$file" 2>/dev/null | grep 'not found')
    [ -z "$missing" ] || wrong "$file: $missing"
done <"$state/elf"
say "-- $(grep -c . "$state/elf") programs and libraries were looked at"

if [ -s "$state/elf" ]; then
    if need readelf binutils >"$state/need.log" 2>&1; then
        while IFS= read -r file; do
            readelf -d "$file" 2>/dev/null | sed -n 's/.*(R\(UN\)\{0,1\}PATH).*\[\(.*\)\].*/\2/p' >"$state/paths"
            while IFS= read -r path; do
                # An empty part, at either end or between, is the folder that the program is started in.
                case ":$path:" in
                    *::*) wrong "$file: RPATH $path has an empty part" ;;
                esac
                printf '%s\n' "$path" | tr ':' '\n' | while IFS= read -r part; do
                    case $part in
                        "" | \$ORIGIN* | \$\{ORIGIN\}* | /usr/* | /opt/* | /lib*) ;;
                        *) say "$part" ;;
                    esac
                done >"$state/unsafe"
                [ ! -s "$state/unsafe" ] || wrong "$file: RPATH has $(tr '\n' ' ' <"$state/unsafe")"
            done <"$state/paths"
        done <"$state/elf"
    else
        say "-- RPATHs are not looked at: no readelf can be had here"
    fi
fi
[ "$bad" = 0 ]
