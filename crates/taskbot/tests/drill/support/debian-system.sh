#!/bin/bash
# A small Debian system, made of this machine's own packages without any network: the essential ones, apt, an awk, and
# what they need. $1 is the folder that it is made in.
set -e
root=$1
declare -A have
queue="$(dpkg-query -W -f '${Package} ${Essential}\n' | sed -n 's/ yes$//p') apt libc-bin mawk"
while [ -n "${queue// /}" ]; do
    next=
    for package in $queue; do
        [ -z "${have[$package]}" ] || continue
        [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1)" = installed ] || continue
        have[$package]=1
        next="$next $(dpkg-query -W -f '${Pre-Depends}, ${Depends}\n' "$package" | tr ',|' '\n\n' |
            sed 's/(.*//; s/:any//; s/ //g')"
    done
    queue=
    for package in $next; do [ -n "${have[$package]}" ] || queue="$queue $package"; done
done
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/var/lib/dpkg/info
for link in bin sbin lib lib64; do [ ! -L /$link ] || ln -s usr/$link "$root/$link"; done
dpkg -L "${!have[@]}" | sed -n 's|^/\(.\)|\1|p' | grep -Ev '^usr/share/(doc|man|locale|info)/|^\.$' | sort -u |
    while IFS= read -r file; do [ ! -e "/$file" ] && [ ! -L "/$file" ] || printf '%s\n' "$file"; done |
    tar -C / --no-recursion -cf - -T - | tar -C "$root" --keep-directory-symlink -xf -
for package in "${!have[@]}"; do
    cp -a /var/lib/dpkg/info/"$package".* /var/lib/dpkg/info/"$package":*.* "$root/var/lib/dpkg/info/" 2>/dev/null || true
done
cp /var/lib/dpkg/info/format "$root/var/lib/dpkg/info/"
dpkg-query -s "${!have[@]}" >"$root/var/lib/dpkg/status"
mkdir -p "$root"/{tmp,proc,sys,dev,root,run,var/tmp,var/cache/apt/archives/partial,var/lib/apt/lists/partial} \
    "$root"/{var/log/apt,etc/apt/sources.list.d,etc/apt/preferences.d,etc/apt/apt.conf.d}
cp -a /etc/passwd /etc/group /etc/alternatives "$root/etc/"
ln -sf mawk "$root/usr/bin/awk"
rm -f "$root"/etc/apt/sources.list.d/* "$root/etc/apt/sources.list"
ldconfig -r "$root"
