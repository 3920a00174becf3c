"""Config drives: what is loaded can be read within its limits, no path leads out of it, and no wrapping changes it.

Wrapped as base64 of gzip, a drive is the same drive. Now and then its files are put in the FAT of a disk with larger
sectors, where they are the same files.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from random import Random

from libironic_disk import configdrive
from libironic_disk.configdrive import ConfigDrive, VolumeKind
from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge, DiskError
from libironic_disk.machine.drives import iso_image
from libironic_disk.pure.drives import fat
from libironic_disk.pure.drives.filetree import MOST_ENTRIES, MOST_LEVELS
from libironic_disk.units import KIB, MIB
from tests.fuzz.engine import Scramble
from tests.fuzz.plain import LARGEST_IMAGE, Packed, sampled
from tests.support import configdrives

_LIMIT = LARGEST_IMAGE
_FILES = 256 * KIB
_ONE_IN = 100
_TREE = {"openstack/latest/meta_data.json": b'{"uuid": "1"}', "Long name of a file.txt": b"x" * 700, "a/b/c/d": b""}


class _Drives(Packed):
    refusals = (ConfigDriveInvalid, ConfigDriveTooLarge)
    seconds = (2.0, 2e-6)
    memory = 40 * MIB
    words = (
        *(
            b"config-2",
            b"CONFIG-2",
            b"CD001",
            b"NM",
            b"SL",
            b"CL",
            b"CE",
            b"RE",
            b"PX",
            b"../",
            b"..",
            b"\0",
            b"/",
            b"\x55\xaa",
        ),
        *(
            "config-2".encode("utf-16-be"),
            b"\x0f",
            b"\x41",
            b"\xe5",
            b"\x1f\x8b\x08",
            b"\xff\x0f",
            b"\xff\xff\xff\x0f",
            b"\xff" * 8,
        ),
    )

    def images(self, random: Random) -> Iterator[bytes]:
        yield configdrives.fat(_TREE, "-F", "12", size=256 * KIB)
        yield configdrives.fat(_TREE, "-s", "1", "-F", "16", size=2200 * KIB)
        yield _small_fat32()
        yield iso_image.make(configdrives.SMALL, label="config-2")
        yield configdrives.iso(_TREE, "-R", "-J")
        yield configdrives.iso(_TREE, "-J", "--norock")
        yield configdrives.iso(_TREE, "-R", links={"link": "../../etc/shadow"})
        yield configdrives.iso(_TREE, "--norock")
        small = configdrives.fat(_TREE, "-F", "12", size=256 * KIB)
        yield gzip.compress(small, mtime=0)
        yield base64.encodebytes(small)
        yield base64.b64encode(gzip.compress(small, mtime=0) + gzip.compress(b"", mtime=0))
        for _ in range(6):
            yield configdrives.fat(configdrives.random_tree(random), size=512 * KIB)

    def changed(self, image: bytes, random: Random, scramble: Scramble) -> bytes:
        changed = super().changed(image, random, scramble)
        match random.randrange(40):
            case 0:
                return base64.b64encode(changed)
            case 1:
                return gzip.compress(changed, 1, mtime=0)
        return changed

    def examine(self, data: bytes) -> str:
        # What can be read, is read even where the label is wrong.
        if b"config-2" not in data[:64].lower():
            self._read_alone(data)
        drive = configdrive.load(data, limit=_LIMIT)
        assert len(drive.data) <= _LIMIT
        assert drive.label.lower() == "config-2"
        if sampled(data, 10):
            wrapped = base64.b64encode(gzip.compress(drive.data, 1, mtime=0))
            assert configdrive.load(wrapped, limit=_LIMIT) == drive
        files = _read(drive)
        self._check_files(files)
        if sampled(data, _ONE_IN):
            self._check_larger_sectors(drive, files)
        return f"{drive.kind}, {min(len(files), 5)} files"

    def _read_alone(self, data: bytes) -> None:
        for read in (fat.read_files, iso_image.read_files):
            try:
                self._check_files(read(data, limit=_FILES))
            except self.refusals:
                continue

    def _check_files(self, files: Mapping[str, bytes]) -> None:
        assert sum(map(len, files.values())) <= _FILES
        assert len(files) <= MOST_ENTRIES
        for path in files:
            parts = path.split("/")
            assert len(parts) <= MOST_LEVELS
            assert not {"", ".", ".."} & {*parts}, path
            assert "\0" not in path
            path.encode()
            assert not any("/".join(parts[:level]) in files for level in range(1, len(parts)))

    def _check_larger_sectors(self, drive: ConfigDrive, files: Mapping[str, bytes]) -> None:
        try:
            larger = configdrive.fitted(drive, 4096, limit=_FILES)
        except DiskError as error:
            assert isinstance(error, self.refusals), error
            return
        assert _read(larger) == dict(files)


def _small_fat32() -> bytes:
    """Return a FAT32 of 1 MiB: only Linux and we call it one, by its fields, and no program makes it."""
    image = bytearray(configdrives.fat(_TREE, "-s", "1", "-F", "32", size=36 * MIB)[:MIB])
    image[32:36] = (MIB // 512).to_bytes(4, "little")
    return bytes(image)


def _read(drive: ConfigDrive) -> dict[str, bytes]:
    read = iso_image.read_files if drive.kind is VolumeKind.ISO9660 else fat.read_files
    return read(drive.data, limit=_FILES)


TARGET = _Drives()
