"""Debian systems as images of whole disks: a partition table, and the boot loader that Debian's own grub-install made.

The system is the one of :mod:`lab.debian`, which reports on the serial port, with GRUB's packages added. There are two
disks: one with an MBR, and one laid out as Debian's cloud images are, with a GPT on which the first partition is the
last one, and loaders for both kinds of firmware.

grub-install runs in the image's own root, in the test machine: it wants to mount the ESP, and the host's kernel may
have no FAT. So nothing is attached or mounted on the host.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from lab import built, cache_directory
from lab.debian import DebianImage, Log, build_partition_image
from lab.testmachine import MIB, STATUS, Disk, running
from libironic_disk.pure.tables.model import TableKind

GRUB_PACKAGES = ("grub2-common", "grub-pc-bin", "grub-efi-amd64-bin")

_INSTALL_TIMEOUT = 600
_TAIL = MIB

# The disk is nothing but a root: GRUB's core image goes into the gap before it.
_MBR = """\
label: dos
label-id: 0x2ed1a12b
1 : start=2048, size={sectors}, type=83, bootable
"""
_GPT = """\
label: gpt
label-id: 6CF3A1E5-52C3-4A0B-9D5E-2ED1A12B0000
1 : start=262144, size={sectors}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, \
uuid=6CF3A1E5-52C3-4A0B-9D5E-2ED1A12B0001
14 : start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649, uuid=6CF3A1E5-52C3-4A0B-9D5E-2ED1A12B0014
15 : start=8192, size=253952, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=6CF3A1E5-52C3-4A0B-9D5E-2ED1A12B0015
"""

# The firmware's console is the serial port too; GRUB's own menu isn't waited for.
_GRUB_DEFAULTS = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX="console=ttyS0 quiet"
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
"""

_INSTALL = """\
set -ex
enter() {
    mount "$1-part1" /mnt
    for folder in dev proc sys; do mount --rbind /$folder /mnt/$folder; done
    cp /run/share/grub-defaults /mnt/etc/default/grub
}
leave() {
    chroot /mnt update-grub
    umount --recursive /mnt
}
disk=/dev/disk/by-id/virtio-mbr
enter $disk
chroot /mnt grub-install --target=i386-pc $disk
leave

disk=/dev/disk/by-id/virtio-gpt
mkfs.vfat -i 2ED1A12B -n ESP $disk-part15
enter $disk
mkdir -p /mnt/boot/efi
mount $disk-part15 /mnt/boot/efi
chroot /mnt grub-install --target=i386-pc $disk
chroot /mnt grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
leave
"""


class Form(StrEnum):
    """What an image comes as, by the end of its file's name."""

    RAW = "raw"
    QCOW2 = "qcow2"
    PACKED_QCOW2 = "packed.qcow2"
    """With compressed clusters, as clouds' images are published."""
    XZ = "raw.xz"
    ZST = "raw.zst"


_PACKING = {
    Form.QCOW2: ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "{raw}", "{packed}"),
    Form.PACKED_QCOW2: ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "{raw}", "{packed}"),
    Form.XZ: ("xz", "--keep", "--threads=0", "-0", "{raw}"),
    Form.ZST: ("zstd", "--quiet", "--threads=0", "{raw}", "-o", "{packed}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A kind of table with which there is a disk: sfdisk's script, where the root begins, what the image comes as."""

    kind: TableKind
    script: str
    disk_id: str
    root_start: int
    packed: tuple[Form, ...]


TABLES = (
    Table(
        kind=TableKind.MBR,
        script=_MBR,
        disk_id="0x2ed1a12b",
        root_start=1 * MIB,
        packed=(Form.QCOW2, Form.XZ),
    ),
    Table(
        kind=TableKind.GPT,
        script=_GPT,
        disk_id="6cf3a1e5-52c3-4a0b-9d5e-2ed1a12b0000",
        root_start=128 * MIB,
        packed=(Form.PACKED_QCOW2, Form.ZST),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianDisk:
    """The image of a whole disk, in each form that it comes in, and what a test wants to know of it."""

    table: Table
    root_uuid: str
    size: int
    forms: Mapping[Form, Path]


def build_disk_images(cache: Path, *, log: Log = print) -> dict[TableKind, DebianDisk]:
    """Return the images by their tables, building them first if the cache has none of this recipe."""
    system = build_partition_image(cache, more=GRUB_PACKAGES, log=log)
    recipe = hashlib.sha256(Path(__file__).read_bytes() + system.path.parent.name.encode()).hexdigest()
    home = built(cache / f"debiandisk-12-{recipe[:12]}", partial(_build, system=system, log=log))
    return {table.kind: _load(home, table, system) for table in TABLES}


def _build(home: Path, *, system: DebianImage, log: Log) -> None:
    disks = {table.kind: _path(home, table, Form.RAW) for table in TABLES}
    for table in TABLES:
        log(f"making a disk with the table {table.kind}")
        _partition(disks[table.kind], table, system)
    log("running grub-install in the test machine")
    _install_grub(disks)
    for table in TABLES:
        for form in table.packed:
            log(f"packing the disk with the table {table.kind} as {form}")
            raw, packed = (str(_path(home, table, each)) for each in (Form.RAW, form))
            _run(*(word.format(raw=raw, packed=packed) for word in _PACKING[form]))


def _path(home: Path, table: Table, form: Form) -> Path:
    return home / f"{table.kind}.{form}"


def _partition(disk: Path, table: Table, system: DebianImage) -> None:
    with disk.open("wb") as file:
        file.truncate(table.root_start + system.virtual_size + _TAIL)
    script = table.script.format(sectors=system.virtual_size // 512)
    subprocess.run(["sfdisk", "--quiet", str(disk)], input=script, text=True, check=True)
    where = f"driver=raw,offset={table.root_start},size={system.virtual_size},file.driver=file,file.filename={disk}"
    options = ("-n", "--target-is-zero", "-f", "qcow2", "--target-image-opts")
    _run("qemu-img", "convert", *options, str(system.path), where)


def _install_grub(disks: dict[TableKind, Path]) -> None:
    attached = [
        Disk(serial=kind, arguments=f"-device virtio-blk-pci,serial={kind},drive={{drive}}", file=disk)
        for kind, disk in disks.items()
    ]
    files = {"install.sh": _INSTALL, "grub-defaults": _GRUB_DEFAULTS}
    with running(["sh", "/run/share/install.sh"], files=files, disks=attached) as machine:
        said = machine.console.wait_until_off(timeout=_INSTALL_TIMEOUT)
        if (machine.share / STATUS).read_text().strip() != "0":
            raise RuntimeError(f"grub-install failed in the test machine:\n{said[-8000:]}")


def _load(home: Path, table: Table, system: DebianImage) -> DebianDisk:
    forms = {form: _path(home, table, form) for form in (Form.RAW, *table.packed)}
    size = forms[Form.RAW].stat().st_size
    return DebianDisk(table=table, root_uuid=system.root_uuid, size=size, forms=forms)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def main() -> None:
    """Build the images from the command line, and say where they are."""
    argparse.ArgumentParser(prog="python -m lab.debiandisk", description=main.__doc__).parse_args()
    for disk in build_disk_images(cache_directory()).values():
        print(f"{disk.forms[Form.RAW]}: {disk.size // MIB} MiB, {disk.table.disk_id}, root {disk.root_uuid}")


if __name__ == "__main__":
    main()
