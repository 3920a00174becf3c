"""What is refused; that the bytes are right is shown against grub-bios-setup in tests/loopdevices/test_grub.py."""

from __future__ import annotations

import struct

import pytest

from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE, MAX_CORE_SECTORS, embed

BOOT = bytes(510) + b"\x55\xaa"
DISKBOOT = bytes(510) + struct.pack("<H", 0x820)


def test_the_core_is_told_where_its_other_sectors_are() -> None:
    embedding = embed(BOOT, DISKBOOT + b"x" * 1000, core_lba=2**33)
    assert len(embedding.boot_code) == BOOT_CODE_SIZE
    assert struct.unpack_from("<Q", embedding.boot_code, 0x5C) == (2**33,)
    assert struct.unpack_from("<QHH", embedding.core, 0x1F4) == (2**33 + 1, 2, 0x820)
    assert embedding.core[512:] == (b"x" * 1000).ljust(1024, b"\0")


@pytest.mark.parametrize(
    ("boot", "core", "reason"),
    [
        (BOOT[:-1], DISKBOOT * 2, "not a boot sector"),
        (bytes(512), DISKBOOT * 2, "not a boot sector"),
        (BOOT, DISKBOOT, "not 1"),
        (BOOT, b"", "not 0"),
        (BOOT, DISKBOOT * (MAX_CORE_SECTORS + 1), "sectors"),
        (BOOT, bytes(1024), "diskboot"),
        (BOOT, bytes(0x1F3) + b"\1" + DISKBOOT[0x1F4:] + bytes(512), "in pieces"),
    ],
)
def test_refuses_what_is_no_grub(boot: bytes, core: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        embed(boot, core, core_lba=1)
