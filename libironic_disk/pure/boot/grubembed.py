"""GRUB's boot sector and core image as bytes for a disk: what ``grub-bios-setup --no-rs-codes`` would write.

grub-bios-setup itself needs the partition table on the disk and the file system mounted. Here the table is what is
written last of all, so the two images are joined on paper. Offsets are those of GRUB's include/grub/i386/pc/boot.h;
they haven't changed since GRUB 1.99. BIOS calls count sectors of 512 bytes, and so does this module.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

SECTOR: Final = 512
BOOT_CODE_SIZE: Final = 440
"""What belongs to a boot loader in sector 0; behind it are the disk signature and the partition table (UEFI, 5.2.1)."""

_KERNEL_SECTOR: Final = 0x5C
_BOOT_DRIVE: Final = 0x64
_DRIVE_CHECK: Final = 0x66
_FIRST_BLOCK: Final = 0x1F4
_BLOCK: Final = struct.Struct("<QHH")
_CORE_SEGMENT: Final = 0x820
_DRIVE_OF_THE_BIOS: Final = b"\xff"
_TWO_NOPS: Final = b"\x90\x90"
MAX_CORE_SECTORS: Final = (0x78000 - 0x9000) // SECTOR
"""grub-bios-setup's own limit: above 0x78000 a BIOS may keep its own data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The first 440 bytes of the disk, and the core image in whole sectors, to be written at its sector."""

    boot_code: bytes
    core: bytes


def embed(boot_img: bytes, core_img: bytes, *, core_lba: int) -> Embedding:
    """Join GRUB's ``boot.img`` and a core image that will lie in one piece from sector ``core_lba`` on.

    Raises:
        ValueError: these aren't such images, or the core is too large to be loaded.
    """
    if len(boot_img) != SECTOR or boot_img[510:] != b"\x55\xaa":
        raise ValueError("boot.img is not a boot sector")
    core = bytearray(core_img.ljust(-(-len(core_img) // SECTOR) * SECTOR, b"\0"))
    sectors = len(core) // SECTOR
    if not 2 <= sectors <= MAX_CORE_SECTORS:
        raise ValueError(f"a core image has 2 to {MAX_CORE_SECTORS} sectors, not {sectors}")
    if _BLOCK.unpack_from(core, _FIRST_BLOCK)[2] != _CORE_SEGMENT:
        raise ValueError("the core image does not begin with GRUB's diskboot.img")
    # The core's first sector is loaded by the boot sector and loads the others, which this list tells it to find.
    _BLOCK.pack_into(core, _FIRST_BLOCK, core_lba + 1, sectors - 1, _CORE_SEGMENT)
    if any(core[_FIRST_BLOCK - _BLOCK.size : _FIRST_BLOCK]):
        raise ValueError("the core image is one that was already installed in pieces")

    boot = bytearray(boot_img)
    struct.pack_into("<Q", boot, _KERNEL_SECTOR, core_lba)
    boot[_BOOT_DRIVE : _BOOT_DRIVE + 1] = _DRIVE_OF_THE_BIOS
    # Without the jump that they replace, a BIOS that passes a floppy's number for a hard disk is believed.
    boot[_DRIVE_CHECK : _DRIVE_CHECK + 2] = _TWO_NOPS
    return Embedding(boot_code=bytes(boot[:BOOT_CODE_SIZE]), core=bytes(core))
