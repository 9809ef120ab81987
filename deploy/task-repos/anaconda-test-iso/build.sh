#!/bin/sh
# Builds test.iso: kernel, an initial RAM disk with the installer, what it installs, and the update's packages.
#   reads   kernel/* packages/* busybox/* (fetched), the worker's own static busybox
#   writes  test.iso, its list of files, results.tap into $TASKBOT_OUTPUT
# Exits 0, 1 when the update's packages do not fit in, 2 when nothing can be built.
set -eu

here=$(pwd)
build=$here/build
output=$TASKBOT_OUTPUT
iso=$build/iso
# What a virtual machine needs to find its disks and media; what a kernel has built in is not missed.
modules="virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console virtio_net
failover net_failover scsi_common scsi_mod virtio_scsi cdrom sr_mod isofs crc16 mbcache jbd2 crc32c_generic libcrc32c
ext4 virtio-rng rng-core ata_piix libata ahci libahci"

stop() { echo "build.sh: $*" >&2; exit 2; }

# grub NAME ARGUMENT… : Fedora calls GRUB's tools grub2-NAME
grub() {
    tool=$1
    shift
    if command -v "grub-$tool" >/dev/null 2>&1; then "grub-$tool" "$@"; else "grub2-$tool" "$@"; fi
}

# unpack PACKAGE FOLDER : an RPM or a Debian package
unpack() {
    case $1 in
        *.rpm) (cd "$2" && rpm2cpio "$1" | cpio -idmu --quiet --no-absolute-filenames) ;;
        *.deb)
            rm -rf "$build/deb" && mkdir "$build/deb"
            (cd "$build/deb" && ar x "$1" && tar -C "$2" -xf data.tar.*) ;;
        *) stop "$1 is neither an RPM nor a Debian package" ;;
    esac || return 1
    chmod -R u+rwX "$2"
}

point() {
    count=$((count + 1))
    echo "$1 $count - $2" >> "$output/results.tap"
    [ "$1" = ok ] || failed=1
}

find_kernel() {
    mkdir -p "$build/kernel"
    for package in "$here"/kernel/*; do
        [ -f "$package" ] || stop "no kernel: give URLs of its packages in \`kernel\`"
        unpack "$package" "$build/kernel" || stop "$(basename "$package") cannot be unpacked"
    done
    vmlinuz=$(find "$build/kernel" -type f -name 'vmlinuz*' | sort | head -n 1)
    [ -n "$vmlinuz" ] || stop "the packages in \`kernel\` hold no vmlinuz"
    moddir=$(find "$build/kernel" -type d -path '*lib/modules/*' -prune | sort | head -n 1)
    [ -n "$moddir" ] || stop "the packages in \`kernel\` hold no modules"
    version=$(basename "$moddir")
}

find_busybox() {
    busybox=$(command -v busybox || :)
    for package in "$here"/busybox/*; do
        [ -f "$package" ] || break
        mkdir -p "$build/busybox"
        unpack "$package" "$build/busybox" || stop "$(basename "$package") cannot be unpacked"
        busybox=$(find "$build/busybox" -type f -name 'busybox*' -perm -u+x | sort | head -n 1)
    done
    [ -n "$busybox" ] || stop "there is no busybox: give the URL of a package in \`busybox\`"
    if ldd "$busybox" >/dev/null 2>&1; then stop "$busybox is not static"; fi
}

# base FOLDER : BusyBox with all its commands, and the kernel's modules
base() {
    mkdir -p "$1/bin" "$1/dev" "$1/proc" "$1/sys" "$1/run" "$1/tmp" "$1/etc" "$1/lib/modules/$version/kernel"
    cp "$busybox" "$1/bin/busybox"
    chmod 755 "$1/bin/busybox"
    for command in $("$busybox" --list); do
        [ -e "$1/bin/$command" ] || ln -s busybox "$1/bin/$command"
    done
    ln -s bin "$1/sbin"
    for module in $modules; do
        find "$moddir" -name "$module.ko*" | head -n 1 | while read -r file; do
            cp "$file" "$1/lib/modules/$version/kernel/"
        done
    done
    find "$1/lib/modules" -name '*.ko.xz' -exec xz -d {} +
    find "$1/lib/modules" -name '*.ko.zst' -exec zstd -q -d --rm {} +
    find "$1/lib/modules" -name '*.ko.gz' -exec gzip -d {} +
    "$busybox" depmod -b "$1" "$version"
}

make_initrd() {
    base "$build/initrd"
    cp "$here/init.sh" "$build/initrd/init"
    cp "$here/install.sh" "$build/initrd/bin/install-system"
    echo "$modules" > "$build/initrd/etc/modules"
    chmod 755 "$build/initrd/init" "$build/initrd/bin/install-system"
    (cd "$build/initrd" && find . | sort | cpio -o -H newc --quiet --owner=0:0 --reproducible) | gzip -n > "$iso/boot/initrd.img"
}

make_root() {
    root=$build/root
    base "$root"
    mkdir -p "$root/boot/grub" "$root/root" "$root/var/tmp" "$root/usr/share/test-iso"
    : > "$root/usr/share/test-iso/packages"
    for package in "$here"/packages/*; do
        [ -f "$package" ] || break
        name=$(basename "$package")
        if unpack "$package" "$root"; then
            point ok "$name is in the system"
            echo "$name" >> "$root/usr/share/test-iso/packages"
        else
            point "not ok" "$name cannot be unpacked"
        fi
    done
    chmod 755 "$root"
    cp "$here/rc.sh" "$root/etc/rc"
    chmod 755 "$root/etc/rc"
    echo "root::0:0:root:/root:/bin/sh" > "$root/etc/passwd"
    echo "root:x:0:" > "$root/etc/group"
    printf '::sysinit:/etc/rc\nttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n::ctrlaltdel:/sbin/reboot\n::shutdown:/bin/umount -a -r\n' > "$root/etc/inittab"
    printf 'NAME="Test system"\nID=test\nVERSION_ID="%s"\n' "$release" > "$root/etc/os-release"
    printf 'update=%s\nrelease=%s\nkernel=%s\n' "$update" "$release" "$version" > "$root/etc/test-iso"
    echo "$modules" > "$root/etc/modules"
    tar -C "$root" --owner=0 --group=0 --numeric-owner -czf "$iso/root.tar.gz" .
}

make_boot() {
    cp "$vmlinuz" "$iso/boot/vmlinuz"
    images=
    for folder in /usr/lib/grub/i386-pc /usr/share/grub2/i386-pc; do
        [ -f "$folder/boot.img" ] && images=$folder
    done
    [ -n "$images" ] || stop "GRUB's modules for i386-pc are not installed"
    # What the installer writes onto the disk.
    mkdir -p "$iso/grub-disk"
    cp "$images/boot.img" "$iso/grub-disk/boot.img"
    grub mkimage -O i386-pc -d "$images" -p '(hd0,msdos1)/boot/grub' -o "$iso/grub-disk/core.img" \
        biosdisk part_msdos ext2 normal linux configfile serial terminal echo
    mkdir -p "$iso/boot/grub"
    cat > "$iso/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_output console serial
set timeout=0
menuentry install {
    linux /boot/vmlinuz console=tty0 console=ttyS0,115200 panic=10 test-iso.install
    initrd /boot/initrd.img
}
END
}

update=$TASKBOT_INPUT_UPDATE
release=$TASKBOT_INPUT_RELEASE
rm -rf "$build"
mkdir -p "$iso/boot"
count=0
failed=0
echo "TAP version 14" > "$output/results.tap"
find_kernel
echo "kernel $version"
find_busybox
make_root
make_initrd
make_boot
cp "$here/default.ks" "$iso/ks.cfg"
printf 'update=%s\nrelease=%s\nkernel=%s\n' "$update" "$release" "$version" > "$iso/test-iso"
if [ "$failed" -eq 0 ]; then
    HOME=$build grub mkrescue -o "$output/test.iso" "$iso" -- -volid TEST_ISO > "$build/mkrescue.log" 2>&1 || {
        cat "$build/mkrescue.log" >&2
        stop "grub-mkrescue failed"
    }
    # The whole of it is read back.
    xorriso -indev "$output/test.iso" -find / -type f -exec lsdl -- 2>/dev/null > "$output/test.iso.files"
    for file in boot/vmlinuz boot/initrd.img root.tar.gz grub-disk/core.img ks.cfg test-iso; do
        if grep -q "'/$file'" "$output/test.iso.files"; then point ok "the medium holds $file"; else point "not ok" "the medium holds $file"; fi
    done
    ls -l "$output/test.iso"
fi
echo "1..$count" >> "$output/results.tap"
exit "$failed"
