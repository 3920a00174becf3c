"""Small systems to boot: Debian's kernel, a RAM disk with busybox, and a root that need not do anything.

Each says on its console who it is and what it was started with, and then runs the lines that are typed there. That
takes seconds where a whole Debian takes a minute, and a test can have it confirm, restart or panic.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from lab import cache_directory
from lab.initramfs import with_busybox
from lab.testmachine import MIB, debian_packages, kernel_version

_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")

# As initramfs-tools has it, a root that isn't found ends in a panic.
_INIT = """\
root=$(sed -n 's/.*root=UUID=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
if ! mount -o ro "$(findfs UUID=$root)" /root; then echo "NO ROOT $root"; exec false; fi
echo "SYSTEM $(cat /root/etc/name) KERNEL {version} CMDLINE $(cat /proc/cmdline)"
while true; do echo "READY"; read -r line </dev/console && sh -c "$line"; done
"""


def kernel_and_initrd(version: str = "") -> tuple[str, bytes, bytes]:
    """Return a version, a kernel and a RAM disk that says that it is of this version."""
    packages = debian_packages(cache_directory())
    real = kernel_version(packages)
    init = _INIT.format(version=version or real)
    initrd = with_busybox(packages, real, init, modules=_MODULES, folders=("mnt", "tmp"))
    return version or real, (packages / "boot" / f"vmlinuz-{real}").read_bytes(), initrd


def build(
    image: Path, name: str, *, size: int = 64 * MIB, kernel: bool = True, fstab: str = "", version: str = ""
) -> Path:
    """Make the image of a small system's file system, an ext4, in a plain file.

    Args:
        image: where it is made.
        name: by which it calls itself.
        size: bytes of the file system.
        kernel: whether it has one.
        fstab: its own ``/etc/fstab``.
        version: of its kernel, instead of the real one.
    """
    with tempfile.TemporaryDirectory(prefix="smallsystem-") as folder:
        tree = Path(folder)
        for each in ("boot", "etc", "proc"):
            (tree / each).mkdir()
        (tree / "etc/name").write_text(f"{name}\n")
        (tree / "etc/os-release").write_text(f'PRETTY_NAME="Small {name}"\n')
        (tree / "etc/fstab").write_text(fstab)
        if kernel:
            called, vmlinuz, initrd = kernel_and_initrd(version)
            (tree / f"boot/vmlinuz-{called}").write_bytes(vmlinuz)
            (tree / f"boot/initrd.img-{called}").write_bytes(initrd)
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image)], check=True)
    return image
