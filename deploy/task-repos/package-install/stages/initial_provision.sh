#!/bin/sh
# Adds the repositories, and reads what is in them.
. "$(dirname "$0")/../lib.sh"

add_rpm() {
    printf '[%s]\nname=%s\nbaseurl=%s\nenabled=1\ngpgcheck=0\nmodule_hotfixes=1\nskip_if_unavailable=0\n' \
        "$1" "$1" "$2" >"/etc/yum.repos.d/$1.repo"
}

# A whole line, a suite of that release, or a folder with packages and their list.
add_deb() {
    list=/etc/apt/sources.list.d/$1.list
    case $2 in
        "deb ["*) say "$2" >"$list" ;;
        "deb "*) say "deb [trusted=yes] ${2#deb }" >"$list" ;;
        *)
            codename=$(. /etc/os-release && say "${VERSION_CODENAME:-stable}")
            if /usr/lib/apt/apt-helper download-file "${2%/}/dists/$codename/Release" "$state/Release" >/dev/null 2>&1; then
                say "deb [trusted=yes] $2 $codename main" >"$list"
            else
                say "deb [trusted=yes] ${2%/}/ ./" >"$list"
            fi
            ;;
    esac
}

count=0
printf '%s\n' "$TASKBOT_INPUT_REPOSITORIES" >"$state/repositories"
while IFS= read -r line; do
    [ -n "$line" ] || continue
    count=$((count + 1))
    name=$(printf '%s' "$line" | sed -n 's/^\([A-Za-z0-9._-][A-Za-z0-9._-]*\)=.*/\1/p')
    if [ -n "$name" ]; then url=${line#*=}; else name=added-$count url=$line; fi
    say "-- repository $name: $url"
    "add_$family" "$name" "$url" || exit 1
done <"$state/repositories"
case $family in
    deb) apt-get -q -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update ;;
    rpm) [ "$manager" = microdnf ] || "$manager" -y -q makecache ;;
esac
