"""What firmware would start from a disk, by the rules that firmware follows, with other people's programs for the rest.

A BIOS jumps to the first sector if it ends with 55 AA (BIOS Boot Specification 1.01). UEFI wants a table, an EFI
system partition in it, and a loader under the removable media's name (UEFI 2.10, 3.5.1.1, 5.2.2 and 13.3.3).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from libironic_disk.pure.boot.grubembed import SECTOR
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import MIB
from tests.support import wholedisks
from tests.support.power_cuts import Moment

LOADER = "::/EFI/BOOT/BOOTX64.EFI"
_ESP_TYPES = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef")
_MTOOLS = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1", "PATH": "/usr/bin:/bin"}


class FirmwareView:
    """A disk that changes, as firmware sees it.

    Programs are asked again only when what they look at has changed: a disk has hundreds of moments.

    Args:
        node: a loop device that has it; a plain file is a disk of 512-byte sectors to most programs.
        sector_size: of that device.
    """

    def __init__(self, node: Path, sector_size: int) -> None:
        self._node = node
        self._sector_size = sector_size
        self._esps: dict[bytes, list[ByteRange]] = {}
        self._loaders: dict[bytes, bool] = {}
        self._opinions: dict[bytes, set[str]] = {}

    def starters(self, moment: Moment) -> frozenset[Firmware]:
        """Return which firmware would find something to start."""
        first = moment.read(0, SECTOR)
        # Without it there is no boot code, no MBR, and no GPT either (5.2.3): nothing has to be asked.
        if first[510:] != b"\x55\xaa":
            return frozenset()
        # Zeros are what a disk for UEFI has there: nothing comes of them, and the machine hangs.
        found = {Firmware.BIOS} if any(first[:440]) and not passes_on(moment) else set()
        if self._has_loader(moment):
            found.add(Firmware.UEFI)
        return frozenset(found)

    def opinions(self, moment: Moment) -> set[str]:
        """Return who finds a table."""
        ends = _ends(moment)
        if ends not in self._opinions:
            self._opinions[ends] = wholedisks.opinions(self._node, sector_size=self._sector_size)
        return self._opinions[ends]

    def _has_loader(self, moment: Moment) -> bool:
        ends = _ends(moment)
        if ends not in self._esps:
            self._esps[ends] = esps(self._node)
        return any(self._is_in(moment, span) for span in self._esps[ends])

    def _is_in(self, moment: Moment, esp: ByteRange) -> bool:
        # Both tables of a FAT, and the first directories: mkfs.vfat leaves no more before the files.
        begins = moment.read(esp.start, 2 * MIB)
        if begins[510:512] != b"\x55\xaa":
            return False
        digest = hashlib.sha256(begins).digest()
        if digest not in self._loaders:
            self._loaders[digest] = loader(self._node, esp) is not None
        return self._loaders[digest]


def passes_on(moment: Moment) -> bool:
    """Whether a BIOS goes on to its next device: there is no boot sector, or one that says so by interrupt 18h."""
    first = moment.read(0, SECTOR)
    return first[510:] != b"\x55\xaa" or first.startswith(b"\xcd\x18")


def loader(disk: Path, esp: ByteRange) -> bytes | None:
    """Return what UEFI would load from a partition, or None."""
    argv = ["mcopy", "-i", f"{disk}@@{esp.start}", LOADER, "-"]
    copied = subprocess.run(argv, capture_output=True, check=False, env=_MTOOLS)
    return copied.stdout if copied.returncode == 0 else None


def esps(disk: Path) -> list[ByteRange]:
    """Return the EFI system partitions of a disk as sfdisk finds them; none where it finds no table."""
    asked = subprocess.run(["sfdisk", "--json", str(disk)], capture_output=True, text=True, check=False)
    if asked.returncode:
        return []
    table = json.loads(asked.stdout)["partitiontable"]
    size = int(table.get("sectorsize", SECTOR))
    return [
        ByteRange(row["start"] * size, (row["start"] + row["size"]) * size)
        for row in table.get("partitions", [])
        if row["type"].lower() in _ESP_TYPES
    ]


def _ends(moment: Moment) -> bytes:
    """Return a digest of that by which a table is found."""
    return hashlib.sha256(moment.read(0, MIB) + moment.read(moment.size - MIB, MIB)).digest()
