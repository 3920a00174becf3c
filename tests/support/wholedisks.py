"""Whole-disk images for tests, made by sfdisk, what was on a disk before, and opinions on what a disk is."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

from libironic_disk.images import ImageSource, ImageType
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB, MIB, align_down, align_up
from tests.support import oracles
from tests.support.disks import LoopDisk, attach

EVERYBODY = {"sfdisk", "blkid", "read_table"}
"""Whose opinions :func:`opinions` asks for."""

_UNSEEN = "there is no protective MBR, without which firmware and Linux don't see the GPT"


def make_disk(path: Path, size: int, *, sector_size: int = 512, label: str = "gpt", seed: int) -> Path:
    """Fill a new file with a disk: a table of sfdisk's, boot code, two partitions with data, holes between it."""
    with path.open("wb") as file:
        file.truncate(size)
    half = (size - 2 * MIB) // 2 // MIB * MIB
    rows = [(MIB, half), (MIB + half, half - 256 * KIB)]
    script = "\n".join(
        [f"label: {label}", *(f"start={at // sector_size}, size={length // sector_size}" for at, length in rows)]
    )
    with attach(path, sector_size) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk.node]
        subprocess.run(argv, input=script, text=True, check=True)
        subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    pick = random.Random(seed)
    with path.open("r+b") as file:
        file.write(b"\xeb\x63\x90" + pick.randbytes(400))
        # The gap before the first partition, where GRUB puts its core image on an MBR.
        file.seek(128 * KIB)
        file.write(pick.randbytes(64 * KIB))
        for at, _ in rows:
            file.seek(at + 512 * KIB)
            file.write(pick.randbytes(700 * KIB + 123))
            file.seek(at + half - MIB)
            file.write(pick.randbytes(300 * KIB))
    return path


def as_qcow2(raw: Path, *options: str) -> Path:
    """Convert an image."""
    packed = raw.with_name(f"{raw.stem}{''.join(options)}.qcow2")
    oracles.output("qemu-img", "convert", "-O", "qcow2", *options, str(raw), str(packed))
    return packed


def with_tables_last(qcow2: Path) -> Path:
    """Move the L2 tables of a qcow2 image to its end, and the L1 table behind them: a stream of it has to wait."""
    image = bytearray(qcow2.read_bytes())
    (bits,) = struct.unpack_from(">I", image, 20)
    entries, l1_offset = struct.unpack_from(">IQ", image, 36)
    l1 = [*struct.unpack_from(f">{entries}Q", image, l1_offset)]
    image += bytes(align_up(len(image), 1 << bits) - len(image))
    for index, entry in enumerate(l1):
        old = entry & 0x00FF_FFFF_FFFF_FE00
        if old:
            l1[index] = entry - old + len(image)
            image += image[old : old + (1 << bits)]
    struct.pack_into(">Q", image, 40, len(image))
    image += struct.pack(f">{entries}Q", *l1).ljust(1 << bits, b"\0")
    path = qcow2.with_name(f"{qcow2.stem}-tables-last.qcow2")
    path.write_bytes(image)
    return path


def fill(disk: LoopDisk) -> None:
    """Leave no byte of a disk zero."""
    with Path(disk.node).open("r+b", buffering=0) as node:
        for at in range(0, node.seek(0, os.SEEK_END), MIB):
            os.pwrite(node.fileno(), b"\xaa" * MIB, at)


def litter_with_partitions(disk: LoopDisk) -> list[ByteRange]:
    """Give a disk a GPT of three partitions up to its end: an ext4, a volume of LVM, a member of a RAID."""
    with Path(disk.node).open("r+b", buffering=0) as node:
        size = node.seek(0, os.SEEK_END)
    third = align_down((size - 2 * MIB) // 3, MIB)
    spans = [ByteRange(MIB + at * third, MIB + (at + 1) * third) for at in range(3)]
    rows = [f"start={span.start // disk.sector_size}, size={span.size // disk.sector_size}" for span in spans]
    argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "always", disk.node]
    subprocess.run(argv, input="\n".join(["label: gpt", *rows]), text=True, check=True)
    offset = f"offset={spans[0].start}"
    oracles.output("mke2fs", "-q", "-F", "-t", "ext4", "-E", offset, disk.node, str(spans[0].size // KIB))
    with Path(disk.node).open("r+b", buffering=0) as node:
        os.pwrite(node.fileno(), _lvm_label(), spans[1].start + 512)
        superblock = align_down(spans[2].size - 8 * KIB, 4 * KIB)
        os.pwrite(node.fileno(), raid_superblock(superblock), spans[2].start + superblock)
    return spans


def litter_with_volumes(disk: LoopDisk) -> list[ByteRange]:
    """Give all of a disk to several volumes at the same time, each of which is found at another place."""
    oracles.output("mke2fs", "-q", "-F", "-t", "ext4", disk.node)
    with Path(disk.node).open("r+b", buffering=0) as node:
        size = node.seek(0, os.SEEK_END)
        os.pwrite(node.fileno(), _lvm_label(), 512)
        os.pwrite(node.fileno(), b"_BHRfS_M", 64 * KIB + 64)
        superblock = align_down(size - 8 * KIB, 4 * KIB)
        os.pwrite(node.fileno(), raid_superblock(superblock), superblock)
    return []


def litter_with_a_second_header(disk: LoopDisk, offset: int) -> None:
    """Plant a LUKS2 header and the copy of it that is taken where the first one is gone (LUKS2 format, 2.1)."""
    with Path(disk.node).open("r+b", buffering=0) as node:
        for magic, place in ((b"LUKS\xba\xbe", 0), (b"SKUL\xba\xbe", offset)):
            header = struct.pack(">6sHQQ", magic, 2, offset, 1).ljust(256, b"\0") + struct.pack(">Q", place)
            os.pwrite(node.fileno(), header.ljust(4 * KIB, b"\0"), place)


def _lvm_label() -> bytes:
    """Return the sector by which LVM and libblkid know a physical volume (LVM2, lib/label/label.h)."""
    body = struct.pack("<I8s32sQ", 32, b"LVM2 001", b"a" * 32, 4 * MIB).ljust(512 - 20, b"\0")
    crc = zlib.crc32(body, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack("<8sQI", b"LABELONE", 1, crc) + body


def raid_superblock(offset: int) -> bytes:
    """Return a superblock of md, version 1.0, whose place is ``offset`` (linux/raid/md_p.h)."""
    head = struct.pack("<IIII16s32s", 0xA92B4EFC, 1, 0, 0, b"u" * 16, b"host:0").ljust(144, b"\0")
    superblock = bytearray((head + struct.pack("<Q", offset // 512)).ljust(256, b"\0"))
    total = sum(struct.unpack("<64I", superblock))
    struct.pack_into("<I", superblock, 216, (total & 0xFFFFFFFF) + (total >> 32))
    return bytes(superblock)


def assert_has_image(disk: LoopDisk, image: Path) -> None:
    """Assert that a disk has each byte of an image, and its GPT as sgdisk wants one on a disk of this size."""
    wanted, sector = image.read_bytes(), disk.sector_size
    with Path(disk.node).open("rb") as node:
        # Not the whole disk, which may be larger than the memory of the machine that the tests boot.
        found, size = node.read(len(wanted)), node.seek(0, os.SEEK_END)
    if wanted[sector:].startswith(b"EFI PART"):
        oracles.check_gpt(disk.node)
        end = (int.from_bytes(wanted[sector + 32 : sector + 40], "little") + 1) * sector
        # How much the protective entry covers; where the primary header's backup is and what is usable, and checksums.
        changed = [ByteRange(446, 462), ByteRange(sector, 2 * sector)] if end < size else []
        for span in changed:
            wanted = wanted[: span.start] + found[span.start : span.end] + wanted[span.end :]
        if len(wanted) == end < size:
            wanted = wanted[: -16 * KIB - sector] + bytes(16 * KIB + sector)
    # Not in one assertion: pytest would describe how megabytes differ.
    same = found == wanted
    assert same


def opinions(path: Path, *, sector_size: int) -> set[str]:
    """Return who finds a partition table on a disk: sfdisk, libblkid's program, and our own reader.

    sfdisk and blkid take a plain file for a disk of 512-byte sectors.
    """
    found = set()
    if oracles.has_table(str(path)):
        found.add("sfdisk")
    if "PTTYPE" in oracles.blkid(str(path)):
        found.add("blkid")
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        table = read_table(
            lambda offset, length: os.pread(file.fileno(), length, offset),
            device=str(path),
            disk_size=size,
            sector_size=sector_size,
        )
    # The reader also tells people of remains: a GPT that firmware and kernels pass over, and one without a whole copy.
    if table is not None and table.disk_id and _UNSEEN not in table.problems:
        found.add("read_table")
    return found


def request_for(disk: LoopDisk, image: ImageSource) -> DeployRequest:
    """Ask for a whole-disk image on a disk."""
    return DeployRequest(device=disk.node, image=image, image_type=ImageType.WHOLE_DISK)
