# Kernel packages and BusyBox, unpacked and put together; read by `. ./lib.sh` with $here and $build set.

# What a virtual machine needs to find its disks and media; what a kernel has built in is not missed.
modules="virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console virtio_net
failover net_failover scsi_common scsi_mod virtio_scsi cdrom sr_mod isofs crc16 mbcache jbd2 crc32c_generic libcrc32c
ext4 virtio-rng rng-core ata_piix libata ahci libahci"

stop() { echo "$*" >&2; exit 2; }

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
    own=$(command -v busybox) || stop "there is no busybox here"
    busybox=$own
    for package in "$here"/busybox/*; do
        [ -f "$package" ] || break
        mkdir -p "$build/busybox"
        unpack "$package" "$build/busybox" || stop "$(basename "$package") cannot be unpacked"
        busybox=$(find "$build/busybox" -type f -name 'busybox*' -perm -u+x | sort | head -n 1)
    done
    [ -n "$busybox" ] || stop "the package in \`busybox\` holds none"
    if ldd "$busybox" >/dev/null 2>&1; then stop "$busybox is not static"; fi
}

# base FOLDER : BusyBox with all its commands, and the kernel's modules
base() {
    mkdir -p "$1/bin" "$1/dev" "$1/proc" "$1/sys" "$1/run" "$1/tmp" "$1/etc" "$1/lib/modules/$version/kernel"
    cp "$busybox" "$1/bin/busybox"
    chmod 755 "$1/bin/busybox"
    # By our own, since the other one may be for another architecture.
    for command in $("$own" --list); do
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
    "$own" depmod -b "$1" "$version"
}
