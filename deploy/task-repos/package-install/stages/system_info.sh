#!/bin/sh
# What this system is, for whoever reads the log; what it has no program for is left out.
. "$(dirname "$0")/../lib.sh"

show() {
    has "$1" || return 0
    say "-- $*"
    timeout 30 "$@" 2>&1
    say
}

show cat /etc/os-release
show uname -a
show lsblk
show df -h
show ip a
show uptime
case $family in
    deb)
        show dpkg -l
        show apt-cache policy
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do [ -f "$file" ] && show cat "$file"; done
        ;;
    rpm)
        show rpm -qa
        [ "$manager" = microdnf ] || show "$manager" -q repolist
        for file in /etc/yum.repos.d/*.repo; do [ -f "$file" ] && show cat "$file"; done
        ;;
esac
exit 0
