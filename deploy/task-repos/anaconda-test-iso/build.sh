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
. ./lib.sh

# grub NAME ARGUMENT… : Fedora calls GRUB's tools grub2-NAME
grub() {
    tool=$1
    shift
    if command -v "grub-$tool" >/dev/null 2>&1; then "grub-$tool" "$@"; else "grub2-$tool" "$@"; fi
}

point() {
    count=$((count + 1))
    echo "$1 $count - $2" >> "$build/results.tap"
    [ "$1" = ok ] || failed=1
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
echo "TAP version 14" > "$build/results.tap"
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
echo "1..$count" >> "$build/results.tap"
# Only a whole document is told.
cp "$build/results.tap" "$output/results.tap"
exit "$failed"
