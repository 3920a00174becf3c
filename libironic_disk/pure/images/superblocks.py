"""What a file system says of itself: how large it is, which shows that an image was cut off, and what else it wants.

Sources: Linux, Documentation/filesystems/ext4/super.rst; XFS Algorithms & Data Structures, chapter "Superblocks";
btrfs documentation, "On-disk format", section "Superblock".
"""

from __future__ import annotations

import struct
from typing import Final

from libironic_disk.units import KIB

NEEDED: Final = 68 * KIB
"""How many first bytes of a file system tell; btrfs' superblock is the last of them."""

_EXT: Final = 1 * KIB
_EXT_MAGIC: Final = b"\x53\xef"
_EXT_64BIT: Final = 0x80
_EXT_HAS_JOURNAL: Final = 0x04
_BTRFS: Final = 64 * KIB
_PAGE: Final = 4 * KIB
_SWAP: Final = b"SWAPSPACE2"
_SWAP_AT: Final = _PAGE - len(_SWAP)


def file_system_size(head: bytes) -> int | None:
    """Return how many bytes a file system takes, by its first :data:`NEEDED` bytes; None where they don't tell."""
    if len(head) < NEEDED:
        head = head.ljust(NEEDED, b"\0")
    if head[_EXT + 0x38 : _EXT + 0x3A] == _EXT_MAGIC:
        return _ext(head[_EXT : _EXT + KIB])
    if head[:4] == b"XFSB":
        block_size, blocks = struct.unpack_from(">IQ", head, 4)
        return int(block_size) * int(blocks)
    if head[_BTRFS + 0x40 : _BTRFS + 0x48] == b"_BHRfS_M":
        total, _, _, devices = struct.unpack_from("<QQQQ", head, _BTRFS + 0x70)
        # Of several devices this is only one.
        return int(total) if devices == 1 else None
    return None


def beyond_itself(head: bytes) -> str:
    """Return which other device a file system would have the kernel use, in words; empty where it is all in one.

    A superblock names the device of an ext journal by a number or by a path of the machine that mounts it, and a btrfs
    is joined with whatever device has its UUID. From an image, that is a way to have somebody else's disk written.

    Args:
        head: its first :data:`NEEDED` bytes.
    """
    head = head.ljust(NEEDED, b"\0")
    if head[_EXT + 0x38 : _EXT + 0x3A] == _EXT_MAGIC:
        superblock = head[_EXT : _EXT + KIB]
        # s_feature_compat, s_journal_inum, s_mount_opts
        has_journal = superblock[0x5C] & _EXT_HAS_JOURNAL
        if has_journal and not any(superblock[0xE0:0xE4]):
            return "its journal is on another device"
        if b"journal_" in superblock[0x200:0x240]:
            return "its own mount options name a device for its journal"
    if head[_BTRFS + 0x40 : _BTRFS + 0x48] == b"_BHRfS_M":
        devices = int.from_bytes(head[_BTRFS + 0x88 : _BTRFS + 0x90], "little")
        return f"its btrfs is on {devices} devices" if devices != 1 else ""
    return ""


def largest_sector(head: bytes) -> int | None:
    """Return how large a disk's logical sectors may be for a file system on it; None where that isn't known.

    What a file system reads at least, a block or a sector of its own, can't be less than the disk reads. Besides ext,
    XFS and btrfs, FAT is known (its specification, BPB_BytsPerSec), and swap areas, which have whole pages.
    """
    head = head.ljust(NEEDED, b"\0")
    if head[_EXT + 0x38 : _EXT + 0x3A] == _EXT_MAGIC:
        (log_block_size,) = struct.unpack_from("<I", head, _EXT + 0x18)
        return KIB << min(int(log_block_size), 6)
    if head[:4] == b"XFSB":
        return int.from_bytes(head[0x66:0x68], "big")
    if head[_BTRFS + 0x40 : _BTRFS + 0x48] == b"_BHRfS_M":
        return int.from_bytes(head[_BTRFS + 0x90 : _BTRFS + 0x94], "little")
    if head[_SWAP_AT : _SWAP_AT + len(_SWAP)] == _SWAP:
        return _PAGE
    if head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:85] == b"FAT"):
        return int.from_bytes(head[11:13], "little")
    return None


def _ext(superblock: bytes) -> int:
    (low,) = struct.unpack_from("<I", superblock, 0x04)
    (log_block_size,) = struct.unpack_from("<I", superblock, 0x18)
    (incompatible,) = struct.unpack_from("<I", superblock, 0x60)
    (high,) = struct.unpack_from("<I", superblock, 0x150) if incompatible & _EXT_64BIT else (0,)
    # More than 64 KiB no kernel takes, whatever the field says.
    block_size: int = KIB << min(log_block_size, 6)
    return (int(high) << 32 | int(low)) * block_size
