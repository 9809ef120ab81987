#!/bin/sh
# Installs onto the first disk what the medium holds, as the kickstart file says: the one on a medium with answers, or
# the medium's own. Of kickstart it knows what its own files need; anything else is refused, not passed over.
say() { echo "installer: $*"; }

fail() {
    echo "INSTALL-FAILED: $*"
    sync
    poweroff -f
}

find_media() {
    mkdir -p /media/system /media/answers
    tries=0
    while [ -z "$system" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "the medium cannot be found"
        [ "$tries" -eq 1 ] || sleep 0.2
        for drive in /dev/sr*; do
            mount -t iso9660 -o ro "$drive" /media/system 2>/dev/null || continue
            if [ -f /media/system/test-iso ]; then
                system=$drive
                break
            fi
            umount /media/system
        done
    done
    kickstart=/media/system/ks.cfg
    for drive in /dev/sr*; do
        [ "$drive" = "$system" ] && continue
        mount -t iso9660 -o ro "$drive" /media/answers 2>/dev/null || continue
        [ -f /media/answers/ks.cfg ] && kickstart=/media/answers/ks.cfg && return
        umount /media/answers
    done
}

# read_kickstart FILE : sets hostname, password, append, packages, ending; keeps %post in /tmp/post
read_kickstart() {
    hostname=localhost
    password=
    append=
    ending=reboot
    number=0
    section=
    : > /tmp/post
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        if [ "$section" = post ] && [ "$line" != %end ]; then
            printf '%s\n' "$line" >> /tmp/post
            continue
        fi
        set -f
        # shellcheck disable=SC2086 # words are wanted
        set -- $line
        set +f
        case ${1:-} in
            '' | '#'*) ;;
            lang | keyboard | timezone | zerombr | clearpart | autopart | text | cmdline) ;;
            network)
                for word in "$@"; do
                    case $word in --hostname=*) hostname=${word#--hostname=} ;; esac
                done ;;
            rootpw)
                case ${2:-} in
                    --iscrypted) password=$3 ;;
                    --lock) password='!' ;;
                    *) fail "$1:$number: rootpw takes --iscrypted HASH or --lock" ;;
                esac ;;
            bootloader) append=$(printf '%s\n' "$line" | sed -n 's/.*--append="\([^"]*\)".*/\1/p') ;;
            reboot | poweroff) ending=$1 ;;
            %packages) section=packages ;;
            %post) section=post ;;
            %end) section= ;;
            *) [ "$section" = packages ] || fail "ks.cfg:$number: unknown command $1" ;;
        esac
    done < "$1"
    [ -z "$section" ] || fail "ks.cfg: %$section has no %end"
}

find_disk() {
    for disk in /dev/vda /dev/sda /dev/nvme0n1; do
        [ -b "$disk" ] && return
    done
    fail "there is no disk"
}

partition() {
    say "partitioning $disk"
    printf 'o\nn\np\n1\n2048\n\na\n1\nw\n' | fdisk -u "$disk" > /tmp/fdisk.log 2>&1
    part=${disk}1
    tries=0
    until [ -b "$part" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || { cat /tmp/fdisk.log; fail "no partition came of it"; }
        sleep 0.1
        blockdev --rereadpt "$disk" 2>/dev/null
    done
    say "making a file system on $part"
    mke2fs -q "$part" > /tmp/mke2fs.log 2>&1 || mke2fs "$part" > /tmp/mke2fs.log 2>&1 || { cat /tmp/mke2fs.log; fail "no file system"; }
    mount -t ext4 "$part" /mnt || mount -t ext2 "$part" /mnt || fail "$part cannot be mounted"
}

copy() {
    say "copying"
    tar -C /mnt -xzf /media/system/root.tar.gz || fail "the medium is damaged: root.tar.gz"
    cp /media/system/boot/vmlinuz /media/system/boot/initrd.img /mnt/boot/ || fail "the medium is damaged: kernel"
    echo "$hostname" > /mnt/etc/hostname
    sed -i "s|^root::|root:$password:|" /mnt/etc/passwd
}

boot_loader() {
    say "writing the boot loader"
    cat > /mnt/boot/grub/grub.cfg <<END
serial --unit=0 --speed=115200
terminal_output console serial
set timeout=0
menuentry system {
    linux /boot/vmlinuz root=$part console=tty0 console=ttyS0,115200 panic=10 $append
    initrd /boot/initrd.img
}
END
    # The table of partitions behind the first 440 bytes stays.
    dd if=/media/system/grub-disk/boot.img of="$disk" bs=440 count=1 conv=notrunc 2>/dev/null || fail "boot.img"
    dd if=/media/system/grub-disk/core.img of="$disk" bs=512 seek=1 conv=notrunc 2>/dev/null || fail "core.img"
}

say "$(cat /proc/version | cut -c1-60)"
system=
find_media
say "medium $system, answers $kickstart"
read_kickstart "$kickstart"
find_disk
partition
copy
boot_loader
if [ -s /tmp/post ]; then
    say "running %post"
    cp /tmp/post /mnt/tmp/post
    chroot /mnt /bin/sh -e /tmp/post || fail "%post failed"
    rm /mnt/tmp/post
fi
umount /mnt
sync
echo INSTALL-DONE
"$ending" -f
