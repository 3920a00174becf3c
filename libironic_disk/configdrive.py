"""Config drives: take one in whatever form it comes, or build it, and make it fit the disk.

A config drive is a small file system labelled ``config-2`` from which a machine learns at its first boot who it is. It
is given as an image (ISO 9660 or FAT; raw, in gzip, in base64, or in both as Ironic passes it), as a file or URL with
any of these, or as the metadata itself::

    drive = load(request["configdrive"], sector_size=disk.sector_size)
    write(drive.data)

Its bytes say what it is: a decoder that happens not to fail proves nothing. The contents are secret: no ``repr``, error
or log record shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge, DeviceFailed, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import http
from libironic_disk.machine.disks import claims, sysfs
from libironic_disk.machine.drives import fat_image, iso_image
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import fetch
from libironic_disk.machine.images.target import open_target
from libironic_disk.machine.paths import read_plain
from libironic_disk.pure.drives import fat, iso9660
from libironic_disk.pure.drives import metadata as contents
from libironic_disk.pure.drives.metadata import Metadata
from libironic_disk.pure.drives.volume import Volume, VolumeKind
from libironic_disk.pure.drives.wrapping import GZIP_MAGIC, decode_base64, encoded_limit, gunzip
from libironic_disk.units import KIB, MIB

__all__ = [
    "DEFAULT_LIMIT",
    "ConfigDrive",
    "HttpPolicy",
    "Metadata",
    "Source",
    "VolumeKind",
    "build",
    "fitted",
    "load",
    "place",
]

DEFAULT_LIMIT: Final = 64 * MIB
LABEL: Final = "config-2"
LOCK_TIMEOUT: Final = 60.0
_SECTOR: Final = 512
_RECOGNISED_BY: Final[Mapping[VolumeKind, int]] = {VolumeKind.FAT: 0, VolumeKind.ISO9660: 32 * KIB}
"""Where the sector is without which a file system is none: FAT's boot sector, the primary volume descriptor.

In the order in which they are taken away.
"""

_NO_PATH: Final = "; a text is never a path, which has to be a pathlib.Path"

Source = str | bytes | bytearray | memoryview | Path | Mapping[str, object] | Metadata
"""A text is a URL or base64 and never a path: a path is a :class:`~pathlib.Path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDrive:
    """A config drive as it is written to its partition.

    Attributes:
        data: the file system image.
        kind: which file system it is.
        label: its label: ``config-2`` in upper or lower case.
        sector_size: the kernel mounts it on disks whose logical sectors have at most so many bytes.
    """

    data: bytes = field(repr=False)
    kind: VolumeKind
    label: str
    sector_size: int

    @property
    def size(self) -> int:
        """Bytes that its partition needs."""
        return len(self.data)


def load(
    source: Source,
    *,
    limit: int = DEFAULT_LIMIT,
    sector_size: int = 512,
    http_policy: HttpPolicy = http.DEFAULT_POLICY,
    tempdir: Path | None = None,
    cancel: Cancellation | None = None,
) -> ConfigDrive:
    """Read a config drive in any form, or build it from metadata, so that it works on the disk.

    An image that fits the disk stays as it is, byte for byte.

    Args:
        source: the drive, or where it is.
        limit: bytes that the drive may have, as it comes and unpacked.
        sector_size: bytes of the disk's logical sectors.
        http_policy: how to read a URL.
        tempdir: where a private directory may be made while a FAT image is built.
        cancel: asked while a server is waited for.

    Raises:
        ConfigDriveInvalid: it isn't a config drive, or a damaged one, or the metadata can't be expressed.
        ConfigDriveTooLarge: it has more than ``limit`` bytes.
        SourceFailed: the file or the URL can't be read.
        ToolMissing, ProgramFailed, ProgramTimedOut: while a FAT image was built.
        TemporaryFilesFailed: there was no room for that in ``tempdir``.
        Cancelled: the caller wished so.
    """
    match source:
        case Metadata():
            return build(source, limit=limit, sector_size=sector_size, tempdir=tempdir)
        case Mapping():
            values = Metadata.from_mapping(source)
            return build(values, limit=limit, sector_size=sector_size, tempdir=tempdir)
        case _:
            raw = _raw(source, encoded_limit(limit), http_policy, cancel)
            hint = _NO_PATH if isinstance(source, str) and not http.is_url(source.strip()) else ""
            return fitted(_recognised(raw, limit, hint=hint), sector_size, limit=limit, tempdir=tempdir)


def build(
    metadata: Metadata, *, limit: int = DEFAULT_LIMIT, sector_size: int = 512, tempdir: Path | None = None
) -> ConfigDrive:
    """Make a config drive for a disk with these sectors; the same metadata gives the same bytes.

    It is ISO 9660 where the kernel can mount that, which is up to 2048 bytes per sector, and FAT elsewhere.

    It raises what :func:`load` raises, but for SourceFailed.
    """
    files = contents.files(metadata)
    _check_size(sum(map(len, files.values())), limit)
    if sector_size > iso9660.SECTOR:
        return _fat(files, sector_size, tempdir)
    data = iso_image.make(files, label=LABEL)
    _check_size(len(data), limit)
    return _drive(data, iso9660.recognise(data))


def fitted(
    drive: ConfigDrive, sector_size: int, *, limit: int = DEFAULT_LIMIT, tempdir: Path | None = None
) -> ConfigDrive:
    """Return the drive itself if a disk with these sectors can hold it, else its files in a FAT that fits.

    It raises what :func:`load` raises, but for SourceFailed.
    """
    if sector_size <= drive.sector_size:
        return drive
    match drive.kind:
        case VolumeKind.ISO9660:
            files = iso_image.read_files(drive.data, limit=limit)
        case VolumeKind.FAT:
            files = fat.read_files(drive.data, limit=limit)
    return _fat(files, sector_size, tempdir)


def place(drive: ConfigDrive, node: str, *, capacity: int, lock_timeout: float | None = LOCK_TIMEOUT) -> None:
    """Write a drive onto a partition that nobody uses, and return once the device has it.

    Whatever becomes of it, there is the drive that was there before, none, or this one: the sector by which a drive is
    recognised goes first and comes last.

    Args:
        drive: what :func:`load` returned.
        node: the partition's device.
        capacity: how many bytes it has.
        lock_timeout: seconds to wait for another user's lock on the disk; None if the caller has it, as within
            :func:`libironic_disk.partitioner.stage`.

    Raises:
        DeviceLocked: somebody else kept the lock. Nothing was written.
        DeviceBusy: somebody uses the partition; names who. Nothing was written.
        NotABlockDevice, DeviceReadOnly: it isn't one, or can't be written.
        DeviceFailed: the partition is too small, or couldn't be written.
    """
    with ExitStack() as stack:
        if lock_timeout is not None:
            stack.enter_context(claims.disk_locked(node, timeout=lock_timeout))
            claims.check_unused(sysfs.block_node(sysfs.block_device_number(node)))
        target = stack.enter_context(open_target(node, capacity=capacity))
        if len(drive.data) > capacity:
            reason = f"the config drive has {len(drive.data)} bytes, and the partition {capacity}"
            raise DeviceFailed(device=node, action="writing to", reason=reason)
        for first in _RECOGNISED_BY.values():
            if first + _SECTOR <= capacity:
                target.zero(first, _SECTOR)
                # One after the other: a FAT has its files where an ISO has its descriptor.
                target.flush()
        data, last = memoryview(drive.data), _RECOGNISED_BY[drive.kind]
        target.write(0, data[:last])
        target.write(last + _SECTOR, data[last + _SECTOR :])
        target.flush()
        target.write(last, data[last : last + _SECTOR])
        target.flush()


def _fat(files: Mapping[str, bytes], sector_size: int, tempdir: Path | None) -> ConfigDrive:
    # Upper case, because readers of FAT look for it so: DOS labels have no other.
    data = fat_image.make(files, sector_size=sector_size, label=LABEL.upper(), tempdir=tempdir)
    return _drive(data, fat.recognise(data))


def _raw(source: object, most: int, policy: HttpPolicy, cancel: Cancellation | None) -> bytes:
    """The bytes of a drive that isn't metadata, still in its wrapping; a longer one is cut or refused."""
    match source:
        case Path():
            raw = _read_file(source, most)
        case str() if http.is_url(source.strip()):
            raw = fetch(Location(url=source.strip()), limit=most, policy=policy, cancel=cancel)
        case str():
            # What isn't ASCII isn't base64 either; the exception of a strict encoder would quote it.
            raw = source.encode("ascii", "replace")
        case bytes() | bytearray() | memoryview():
            raw = bytes(source)
        case _:
            raise ConfigDriveInvalid(reason=f"a {type(source).__name__} is neither an image nor a place nor metadata")
    return raw


def _read_file(path: Path, most: int) -> bytes:
    """Read a regular file, at most ``most`` + 1 bytes: a pipe or a device might never end."""
    try:
        data = read_plain(path, most + 1)
    except OSError as error:
        raise SourceFailed(source=str(path), reason=error.strerror or type(error).__name__) from error
    if data is None:
        raise ConfigDriveInvalid(reason=f"{path} is not a regular file")
    return data


def _recognised(raw: bytes, limit: int, *, hint: str = "") -> ConfigDrive:
    """Take off base64 and gzip, each at most once and in this order, and look at what is inside.

    ``hint`` ends the sentence where nothing known is found: many a path is good base64.
    """
    _check_size(len(raw), encoded_limit(limit), shown=limit)
    data, volume = raw, _volume(raw)
    if volume is None and not data.startswith(GZIP_MAGIC):
        data = decode_base64(data, hint=hint)
        volume = _volume(data)
    _check_size(len(data), limit)
    if volume is None and data.startswith(GZIP_MAGIC):
        data = gunzip(data, limit=limit)
        volume = _volume(data)
    return _drive(data, volume, hint=hint)


def _volume(data: bytes) -> Volume | None:
    return iso9660.recognise(data) or fat.recognise(data)


def _drive(data: bytes, volume: Volume | None, *, hint: str = "") -> ConfigDrive:
    if volume is None:
        raise ConfigDriveInvalid(reason=f"what is inside is neither an ISO 9660 nor a FAT file system{hint}")
    if len(data) < volume.size:
        raise ConfigDriveInvalid(reason=f"it is truncated: {len(data)} of {volume.size} bytes are there")
    if volume.label.lower() != LABEL:
        raise ConfigDriveInvalid(reason=f"its label is {volume.label!r}, which has to be {LABEL!r}")
    return ConfigDrive(data=data, kind=volume.kind, label=volume.label, sector_size=volume.sector_size)


def _check_size(found: int, limit: int, *, shown: int | None = None) -> None:
    if found > limit:
        raise ConfigDriveTooLarge(limit=limit if shown is None else shown, found=found)
