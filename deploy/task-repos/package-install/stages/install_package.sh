#!/bin/sh
# Installs the package, in the version, from the module and the channel that are asked for.
. "$(dirname "$0")/../lib.sh"
version=$TASKBOT_INPUT_VERSION epoch=$TASKBOT_INPUT_EPOCH
export LC_ALL=C

install_rpm() {
    # Options go behind the command: dnf5 knows them nowhere else. The others know no --allowerasing.
    set --
    case $manager in dnf | dnf5) set -- --allowerasing ;; esac
    if [ "$TASKBOT_INPUT_CHANNEL" = beta ]; then
        # A pattern that no repository fits is an error to them.
        for word in beta testing; do
            ! grep -hq "^\[.*$word.*\]" /etc/yum.repos.d/*.repo 2>/dev/null || set -- "$@" "--enablerepo=*$word*"
        done
    fi
    if [ -n "$TASKBOT_INPUT_MODULE" ]; then
        module=$TASKBOT_INPUT_MODULE
        [ -z "$TASKBOT_INPUT_MODULE_STREAM" ] || module=$module:$TASKBOT_INPUT_MODULE_STREAM
        [ -z "$TASKBOT_INPUT_MODULE_VERSION" ] || module=$module:$TASKBOT_INPUT_MODULE_VERSION
        say "-- module $module"
        "$manager" -y module reset "$TASKBOT_INPUT_MODULE"
        "$manager" -y module enable "$module" || return 1
    fi
    wanted=$package
    [ -z "$version" ] || wanted=$package-${epoch:+$epoch:}$version
    say "-- $manager install $wanted"
    "$manager" -y install "$@" "$wanted" || return 1
    # Where a newer one was there already, the one that is asked for is still to come.
    is_there || { [ -n "$version" ] && "$manager" -y downgrade "$@" "$wanted"; }
}

install_deb() {
    set -- -y -q --allow-downgrades --allow-unauthenticated
    if [ "$TASKBOT_INPUT_CHANNEL" = beta ]; then
        for suite in testing proposed beta; do
            release=$(apt-cache policy | sed -n "s/.*,a=\([^,]*$suite[^,]*\),.*/\1/p" | head -n 1)
            [ -z "$release" ] || set -- "$@" -t "$release"
        done
    fi
    if [ -z "$version" ]; then
        say "-- apt-get install $package"
        apt-get "$@" install "$package"
        return
    fi
    # As it stands, or the first that begins with it.
    full=${epoch:+$epoch:}$version
    exact=$(apt-cache madison "$package" | sed 's/^[^|]*| *\([^ ]*\) .*/\1/' | while IFS= read -r known; do
        case $known in
            "$full" | *":$full") say "0 $known" ;;
            "$full"[-+~.]* | *":$full"[-+~.]*) say "1 $known" ;;
        esac
    done | sort -s -n -k 1,1 | head -n 1)
    if [ -z "$exact" ]; then
        say "no repository has $package in version $full; there is:"
        apt-cache madison "$package"
        return 1
    fi
    say "-- apt-get install $package=${exact#* }"
    apt-get "$@" install "$package=${exact#* }"
}

# Whether the installed version is the one that is asked for.
is_there() {
    case $family in
        deb) found=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$package" 2>/dev/null) ;;
        rpm) found="installed $(rpm -q --qf '%{EPOCHNUM}:%{VERSION}-%{RELEASE}' "$package" 2>/dev/null)" || return 1 ;;
    esac
    say "-- $package: $found"
    case $found in
        "installed "*"$version"*) return 0 ;;
        *) return 1 ;;
    esac
}

"install_$family" || exit 1
if ! is_there; then
    say "$package is not there in version ${version:-(any)}"
    exit 1
fi
