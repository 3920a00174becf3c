"""Superblocks: what is read of sizes is what libblkid and dumpe2fs read, where they believe the superblock."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from libironic_disk.pure.drives import fat, iso9660
from libironic_disk.pure.images.superblocks import NEEDED, file_system_size, largest_sector
from libironic_disk.units import MIB
from tests.fuzz.plain import Packed, sampled
from tests.support.oracles import blkid, output

_SIZE = 320 * MIB
_ONE_IN = 25
_MAGICS = {"ext": (0x438, b"\x53\xef"), "xfs": (0, b"XFSB"), "btr": (0x10040, b"_BHRfS_M")}
_EXT = ("Block count", "Block size")
_MADE = (
    *(["mke2fs", "-q", "-t", "ext2"], ["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^64bit"]),
    *(
        ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "64bit,^metadata_csum"],
        ["mkfs.xfs", "-q"],
        ["mkfs.btrfs", "-q"],
    ),
    *(["mkfs.vfat"], ["mkswap", "-q"]),
)


class _Superblocks(Packed):
    words = (b"\x53\xef", b"XFSB", b"_BHRfS_M", b"SWAPSPACE2", b"\x55\xaa", b"FAT32", bytes(8), b"\xff" * 8)

    def images(self, random: Random) -> Iterator[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            for command in _MADE:
                path = Path(folder, "image")
                with path.open("wb") as file:
                    file.truncate(_SIZE)
                output(*command, str(path))
                with path.open("rb") as file:
                    yield file.read(NEEDED)
                path.unlink()

    def examine(self, data: bytes) -> str:
        head = data[:NEEDED]
        size, sector = file_system_size(head), largest_sector(head)
        assert size is None or 0 <= size < 1 << 102
        assert sector is None or 0 <= sector < 1 << 32
        assert file_system_size(head + b"x" * 100) == size or len(head) < NEEDED
        for volume in (fat.recognise(head.ljust(4096, b"\0")), iso9660.recognise(head)):
            assert volume is None or volume.size >= 0
        if size is None:
            return "no size"
        if sampled(data, _ONE_IN):
            self._ask_programs(head, size, sector)
        return "a size"

    def _ask_programs(self, head: bytes, size: int, sector: int | None) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(head)
            file.truncate(_SIZE)
            file.flush()
            try:
                said = blkid(file.name)
            except AssertionError:  # of two superblocks at once it says nothing
                return
            kind = said.get("TYPE", "")
            # Of two magic numbers the first counts here, and there the one whose superblock is sound.
            if [name for name, (at, magic) in _MAGICS.items() if head.startswith(magic, at)] == [kind[:3]]:
                assert int(said["BLOCK_SIZE"]) == sector, said
            if kind.startswith("ext"):
                dumped = subprocess.run(["dumpe2fs", "-h", file.name], capture_output=True, text=True, check=False)
                if not dumped.returncode:
                    count, block = (
                        int(re.findall(f"^{name}: *(\\d+)$", dumped.stdout, re.MULTILINE)[0]) for name in _EXT
                    )
                    assert count * block == size


TARGET = _Superblocks()
