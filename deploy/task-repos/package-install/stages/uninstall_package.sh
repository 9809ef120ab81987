#!/bin/sh
# Removes the package. What the system cannot be without is left.
. "$(dirname "$0")/../lib.sh"
skip() {
    say "$package is left: $1"
    exit 77
}

case $package in
    almalinux-release | kernel | kernel-* | dnf | dnf5 | microdnf | rpm | dpkg | apt) skip "the system needs it" ;;
esac
case $family in
    rpm)
        for file in /etc/dnf/protected.d/*.conf /etc/yum/protected.d/*.conf; do
            [ ! -f "$file" ] || ! grep -qx "$package" "$file" || skip "$file protects it"
        done
        ;;
    deb)
        [ "$(dpkg-query -W -f '${Essential}' "$package")" != yes ] || skip "it is essential"
        ;;
esac
# Another program may have the list of packages for a moment.
for try in 1 2 3 4 5 6; do
    case $family in
        rpm) rpm -e --nodeps --allmatches "$package" ;;
        deb) dpkg -r --force-depends "$package" ;;
    esac && break
    say "-- tried $try times"
    sleep 5
done
case $family in
    rpm) ! rpm -q "$package" >/dev/null ;;
    deb) [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ] ;;
esac
