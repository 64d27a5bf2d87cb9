"""The disk, the kernel and the initramfs that every virtual machine starts from, made once and kept in the cache.

The disk is the nodes' Debian root with what a machine of its own needs beside that; the kernel is Debian's, as it is
packaged for clouds.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import host, image
from lab.host import LabError
from lab.image import NODE, Recipe

# Without its maintainer scripts: they would build an initramfs that finds disks by itself, and take longer than
# everything else here. A node's kernel is started by QEMU.
_KERNEL = (
    'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; '
    "name=$(apt-cache show --no-all-versions linux-image-cloud-amd64 | "
    "sed -n 's/^Depends: \\(linux-image[^ ,]*\\).*/\\1/p'); "
    'mkdir "$1/kernel"; cd "$1/kernel"; apt-get download "$name"; '
    # The package's /lib must not take the place of the link to /usr/lib.
    'dpkg-deb --fsys-tarfile *.deb | tar -x --keep-directory-symlink -C "$1"; '
    'cd /; rm -r "$1/kernel"; chroot "$1" depmod "$(ls "$1/lib/modules")"'
)

# The lab's own questions are asked with a copy: a node whose tools are taken away can still be judged.
TOOLS = "/usr/local/lib/lab"
_KEEP_TOOLS = f'install -D "$1/usr/bin/dig" "$1{TOOLS}/dig"'

_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng")

_SIZE_MIB = 2048

_INIT = Path(__file__).with_name("init.sh")
_AGENT_UNIT = Path(__file__).with_name("qemu-guest-agent@.service")

# Ports to the guest, so many commands can run there side by side.
PORTS = 4

# $1 root, $2 where the three files go. Run in a copy-on-write mount of the root: the cached one stays as it is.
_MAKE = """
set -eu
root=$1
version=$(ls "$root/lib/modules")
tree=$root/initramfs
mkdir -p "$tree/bin" "$tree/modules"
cp "$root/bin/busybox" "$tree/bin/"
cp "$3" "$tree/init"
chmod 0755 "$tree/init"
for module in $4; do chroot "$root" modprobe --show-depends --set-version "$version" "$module"; done |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r file; do cp "$root$file" "$tree/modules/"; echo "${file##*/}"; done >"$tree/order"
mv "$tree/order" "$tree/modules/order"
chroot "$root" sh -ec 'cd /initramfs; find . | busybox cpio -o -H newc' >"$2/initramfs"
rm -r "$tree"
cp "$root/boot/vmlinuz-$version" "$2/kernel"
mkdir -p "$root/usr/local/bin"
for program in $5; do cp "$program" "$root/usr/local/bin/"; done
units=$root/etc/systemd/system
cp "$7" "$units/"
ln -s /dev/null "$units/qemu-guest-agent.service"
for port in $(seq "$8"); do
    ln -s "../${7##*/}" "$units/multi-user.target.wants/qemu-guest-agent@$port.service"
done
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$2/disk" "$6M"
"""


@dataclass(frozen=True)
class Disk:
    """What QEMU starts a node from. All three are only ever read."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.directory / "kernel"

    @property
    def initramfs(self) -> Path:
        """`init.sh` and the modules that it loads."""
        return self.directory / "initramfs"

    @property
    def disk(self) -> Path:
        """A raw ext4 file system."""
        return self.directory / "disk"


def ensure(programs: tuple[Path, ...], hooks: tuple[str, ...]) -> Disk:
    """Return the disk, making it first if it is not cached. Raises LabError.

    `programs` are in its /usr/local/bin; `hooks` are shell commands with the root's path in `$1`.
    """
    packages = (*NODE.packages, "qemu-guest-agent", "busybox-static")
    own = (_KERNEL, _KEEP_TOOLS)
    root = image.ensure(Recipe("the virtual machines' root", "vm-root", packages, (*NODE.hooks, *own, *hooks)))
    parts = (
        root.name,
        _MAKE,
        _INIT.read_text(),
        _AGENT_UNIT.read_text(),
        *_MODULES,
        str(_SIZE_MIB),
        str(PORTS),
        *(str(each) for each in programs),
    )
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    found = host.cache_dir() / f"vm-disk-{key}"
    if found.is_dir():
        return Disk(found)
    with host.locked(found.parent):
        partial = found.with_name(found.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _make(root, partial, programs)
            (partial / "made").rename(found)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    host.say("the virtual machines' disk: made")
    return Disk(found)


def _make(root: Path, partial: Path, programs: tuple[Path, ...]) -> None:
    for name in ("made", "upper", "work", "merged"):
        (partial / name).mkdir()
        (partial / name).chmod(0o755)
    merged = partial / "merged"
    layers = f"lowerdir={root},upperdir={partial / 'upper'},workdir={partial / 'work'}"
    mount = f'mount -t overlay dnsmend-disk -o "{layers}" "{merged}"; exec sh -c "$@"'
    arguments = [str(merged), str(partial / "made"), str(_INIT), " ".join(_MODULES)]
    arguments += [" ".join(str(each) for each in programs), str(_SIZE_MIB)]
    arguments += [str(_AGENT_UNIT), str(PORTS)]
    # A mount namespace of its own: the mount ends with the script, however that ends.
    host.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-euc", mount, "sh", _MAKE, "sh", *arguments],
        timeout=300.0,
    )
    if not (partial / "made/disk").is_file():
        raise LabError("mke2fs made no disk")
