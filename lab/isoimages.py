"""Images that are CDs and disks at once, made by tools that nobody here wrote.

Three come with Debian's packages: a memory tester whose boot sector loads it as from a floppy disk, GRUB's rescue
system, and iPXE under ISOLINUX. Debian's installer isn't among them: its netboot package has files for a server, and
no image, so these are laid out as Debian's own images are. The last is made by grub-mkrescue, as the images of live
systems are: an MBR and a GPT, whose entries aren't where they usually are, and a boot loader for each firmware.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from enum import StrEnum
from pathlib import Path

from lab import built, debpackages
from lab.initramfs import with_busybox
from lab.isolayouts import isolinux_arguments
from lab.testmachine import debian_packages, kernel_version
from libironic_disk.machine.drives import fat_image

_PACKAGES = ("grub-rescue-pc", "ipxe", "memtest86+")
_INSTALLER = ("debian-installer-12-netboot-amd64", "grub-efi-amd64-signed", "shim-signed")
_INSTALLER_FILES = Path("usr/lib/debian-installer/images/12/amd64/text/debian-installer")

LIVE_SAYS = "LIVE SYSTEM IS UP"
"""What the live system writes to the serial port."""

# As live systems do, it finds its files on the disk itself and on none of its partitions.
_MODULES = ("virtio_pci", "virtio_blk", "isofs")
_INIT = """\
mount -t iso9660 -o ro /dev/vda /root && cat /root/says
read -r forever </dev/console
"""
_GRUB_CFG = """\
linux /boot/vmlinuz console=ttyS0 quiet
initrd /boot/initrd.img
boot
"""


class Packaged(StrEnum):
    """An image in Debian's packages, by where they have it."""

    MEMTEST_64 = "usr/lib/memtest86+/memtest86+x64.iso"
    MEMTEST_32 = "usr/lib/memtest86+/memtest86+ia32.iso"
    GRUB_RESCUE = "usr/lib/grub-rescue/grub-rescue-cdrom.iso"
    GRUB_RESCUE_FLOPPY = "usr/lib/grub-rescue/grub-rescue-floppy.img"
    IPXE = "usr/lib/ipxe/ipxe.iso"


def packaged(cache: Path, image: Packaged) -> Path:
    """Return where an image of Debian's packages is, fetching these first if the cache has none."""
    recipe = hashlib.sha256(repr(_PACKAGES).encode()).hexdigest()
    return built(cache / f"isoimages-{recipe[:12]}", _unpack) / image


def debian_installer(cache: Path) -> Path:
    """Return an image of Debian's installer, making it first if the cache has none; it is an isohybrid of 53 MiB.

    Kernel, RAM disk and configurations are those of the netboot package, unmodified: ISOLINUX's ``/isolinux.cfg``
    includes others three deep, GRUB's is ``/boot/grub/grub.cfg``. For UEFI there is Debian's signed chain. Both menus
    wait for a key.
    """
    recipe = hashlib.sha256(repr(_INSTALLER).encode()).hexdigest()
    return built(cache / f"debian-installer-{recipe[:12]}", _make_installer) / "mini.iso"


def live(cache: Path, image: Path) -> Path:
    """Make the image of a live system: Debian's kernel, and a RAM disk that reads from its disk that it is up."""
    packages = debian_packages(cache)
    version = kernel_version(packages)
    with tempfile.TemporaryDirectory(prefix="live-") as folder:
        boot = Path(folder, "boot")
        (boot / "grub").mkdir(parents=True)
        (boot / "grub/grub.cfg").write_text(_GRUB_CFG)
        (boot / "vmlinuz").write_bytes((packages / "boot" / f"vmlinuz-{version}").read_bytes())
        (boot / "initrd.img").write_bytes(with_busybox(packages, version, _INIT, modules=_MODULES))
        Path(folder, "says").write_text(f"{LIVE_SAYS}\n")
        argv = ["grub-mkrescue", f"--output={image}", folder]
        subprocess.run(argv, check=True, capture_output=True)
    return image


def _unpack(tree: Path) -> None:
    debpackages.update()
    debpackages.unpack(tree, _PACKAGES)


def _make_installer(home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="debian-installer-") as folder:
        packages, tree = Path(folder, "packages"), Path(folder, "tree")
        debpackages.update()
        debpackages.unpack(packages, _INSTALLER)
        installer = tree / "debian-installer"
        without_modules = shutil.ignore_patterns("x86_64-efi", "*.efi", "pxelinux*")
        shutil.copytree(packages / _INSTALLER_FILES, installer, ignore=without_modules)
        grub = tree / "boot/grub"
        shutil.move(installer / "amd64/grub", grub)
        screens = installer / "amd64/boot-screens"
        shutil.move(screens / "syslinux.cfg", tree / "isolinux.cfg")
        shutil.copy(screens / "ldlinux.c32", tree)
        shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", tree)
        # By one of these the signed GRUB for CDs knows where it is.
        (tree / ".disk").mkdir()
        (tree / ".disk/mini-info").write_text("Debian's installer\n")
        loaders = {
            "EFI/BOOT/BOOTX64.EFI": packages / "usr/lib/shim/shimx64.efi.signed",
            "EFI/BOOT/grubx64.efi": packages / "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
        }
        files = {path: loader.read_bytes() for path, loader in loaders.items()}
        (grub / "efi.img").write_bytes(fat_image.make(files, sector_size=512, label="ESP"))
        arguments = isolinux_arguments(loader="isolinux.bin", esp="boot/grub/efi.img")
        argv = ["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", "DEBIAN_MINI", "-o", str(home / "mini.iso")]
        subprocess.run([*argv, *arguments, str(tree)], check=True, capture_output=True)
