"""What in a description contradicts itself: everything that can be seen without a disk or an image."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final
from urllib.parse import urlsplit

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import FileSystem, PartitionSpec, room_problems, spec_problems
from libironic_disk.pure.disks.sizes import Exact, Remaining, size_problems
from libironic_disk.pure.multiboot.arranging import arrange
from libironic_disk.pure.multiboot.description import (
    MULTIBOOT,
    Disk,
    DiskIdKind,
    Group,
    Member,
    MultiImage,
    Volume,
)
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind

RESERVED: Final = frozenset({Role.BIOS_BOOT.value, Role.ESP.value, Role.MULTIBOOT.value})
"""Names of the partitions that the first disk has by itself."""

_SCHEMES: Final = frozenset({"http", "https", "file"})
_SWAP: Final = "swap"
# What partitions, groups and logical volumes can all be called.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
_SCSI: Final = re.compile(r"[0-9]+:[0-9]+:[0-9]+:[0-9]+")


def problems(description: MultiImage, *, complete: bool = True) -> Iterator[str]:
    """Yield every contradiction of a description, each after what it is about.

    Args:
        description: to be looked at.
        complete: False where parts of a document couldn't be read: that something isn't there says nothing then.
    """
    found = False
    for problem in chain(
        _image_problems(description, complete=complete),
        _volumes_problems(description, complete=complete),
        _mount_problems(description, complete=complete),
        _place_problems(description, complete=complete),
    ):
        found = True
        yield problem
    if complete and not found:
        # What is left are rules of layouts and of LVM, which have one home already.
        yield from _layout_problems(description)


def _image_problems(description: MultiImage, *, complete: bool) -> Iterator[str]:
    images = description.images
    if not images and complete:
        yield "images: there is none"
    booting = [repr(image.name) for image in images if image.boot]
    if len(booting) > 1:
        yield f"images: {', '.join(booting)} are all to boot by default, and one can"
    if images and complete and description.default not in {image.name for image in images}:
        yield f"images: {description.default!r} is to boot by default, and is none of them"
    yield from _repeated("images", "have the name", [image.name for image in images])
    for image in images:
        where = image.where or f"image {image.name!r}"
        for field in ("name", "image_name", "image_uuid"):
            if not getattr(image, field).isprintable():
                yield f"{where}.{field}: it has a control character"
        if complete and not image.name.strip():
            yield f"{where}.name: it is empty"
        if (complete or image.pull_url) and not _is_url(image.pull_url):
            yield f"{where}.image_pull_url: {image.pull_url!r} is none; http, https and file URLs are read"
        if image.target != "/":
            yield f"{where}.target: {image.target!r}; an image is one file system, a root, and is written to '/'"


def _is_url(text: str) -> bool:
    try:
        return text.isprintable() and urlsplit(text).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _volumes_problems(description: MultiImage, *, complete: bool) -> Iterator[str]:
    names = [image.name for image in description.images]
    for volume in description.volumes():
        where = volume.where or f"volume {volume.name!r}"
        if complete or all(names):
            yield from (f"{where}.images: {problem}" for problem in _unknown_images(volume, names))
        yield from _repeated(f"{where}.images", "are", volume.images)
        if complete and volume.mount is not None and not volume.images:
            yield f"{where}.images: there is none; without the key it belongs to the first image"
        if volume.mount == "/" and len(set(volume.images)) > 1:
            yield f"{where}.images: one volume is the root of several, {', '.join(map(repr, volume.images))}"
        yield from (f"{where}.mount: {problem}" for problem in _mount_words(volume.mount))
        yield from (f"{where}.file_system: {problem}" for problem in _file_system_problems(volume))
        if any(not character.isprintable() or character.isspace() for character in volume.fstab_options):
            yield f"{where}.fstab_options: there is white space or a control character in it"
        if (complete or volume.name) and not _NAME.fullmatch(volume.name):
            rule = "1 to 31 letters, digits, dots, dashes, underscores"
            yield f"{where}.name: {volume.name!r} is no name for a volume: {rule}"
        yield from _partition_problems(volume, where)


def _unknown_images(volume: Volume, names: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(volume.images):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, names)) or 'none'}"
            yield f"there is no image {name!r}{meant}"


def _mount_words(mount: str | None) -> Iterator[str]:
    if mount is None or mount == _SWAP:
        return
    if mount == MULTIBOOT:
        yield "the multiboot partition is there by itself, and no image mounts it: leave this volume out"
    elif not mount.startswith("/") or not mount.isprintable():
        yield f"{mount!r} is no absolute path without control characters"
    elif mount != "/" and any(part in {"", ".", ".."} for part in mount[1:].split("/")):
        yield f"{mount!r} is no plain path: no '.', '..' or empty part"


def _file_system_problems(volume: Volume) -> Iterator[str]:
    if volume.mount == _SWAP:
        # The mount decides, as in Bareon, whatever file system is named.
        return
    if volume.filesystem is FileSystem.SWAP:
        yield f"swap is mounted nowhere: the mount must be {_SWAP!r}"
    elif volume.mount not in {None, "/"} and volume.filesystem is None:
        yield "there is none, and something must be made to be mounted"


def _partition_problems(volume: Volume, where: str) -> Iterator[str]:
    swap = _SWAP in {volume.mount, volume.filesystem}
    # An image brings its own file system, so a root may be too small for the one that is named.
    kind = FileSystem.SWAP if swap else None if volume.mount == "/" else volume.filesystem
    # Its name was looked at already, by a narrower rule.
    name = volume.name if _NAME.fullmatch(volume.name) else "volume"
    spec = PartitionSpec(role=Role.SWAP if swap else Role.DATA, size=volume.size, name=name, filesystem=kind)
    yield from (f"{where}: {problem}" for problem in spec_problems(spec, TableKind.GPT))
    if isinstance(volume.size, Exact):
        yield from (f"{where}: {problem}" for problem in room_problems(spec, volume.size.size))


def _mount_problems(description: MultiImage, *, complete: bool) -> Iterator[str]:
    for image in description.images:
        where = image.where or f"image {image.name!r}"
        mounted: dict[str, list[str]] = {}
        for volume in description.volumes_of(image.name) if image.name else ():
            if volume.mount not in {None, _SWAP}:
                mounted.setdefault(str(volume.mount), []).append(volume.where or repr(volume.name))
        for mount, volumes in mounted.items():
            if len(volumes) > 1:
                yield f"{', '.join(volumes)}: of the image {image.name!r} all of them are mounted at {mount!r}"
        if complete and "/" not in mounted:
            yield f"{where}: no volume of {image.name!r} is its '/'"


def _place_problems(description: MultiImage, *, complete: bool) -> Iterator[str]:
    if complete and not description.disks:
        yield "partitions: there is no disk"
    yield from _repeated("partitions", "are the disk", [_plain_id(disk) for disk in description.disks if disk.id_value])
    yield from _repeated("partitions", "are the group", [group.name for group in description.groups])
    for at, disk in enumerate(description.disks):
        yield from _disk_problems(disk, implicit=RESERVED if at == 0 else frozenset(), complete=complete)
    for group in description.groups:
        where = group.where or f"group {group.name!r}"
        if (complete or group.name) and not _NAME.fullmatch(group.name):
            yield f"{where}.id: {group.name!r} is no name for a group"
        yield from _together_problems(where, group.volumes)
    if complete:
        yield from _missing_members(description.disks, description.groups)


def _missing_members(disks: Sequence[Disk], groups: Sequence[Group]) -> Iterator[str]:
    members = [each for disk in disks for each in disk.partitions if isinstance(each, Member)]
    names = {group.name for group in groups}
    for each in members:
        if each.group not in names:
            yield f"{each.where or 'pv'}.vg: there is no group {each.group!r}"
    for group in groups:
        if group.name not in {each.group for each in members}:
            yield f"{group.where or 'group'}.id: no partition is a pv of {group.name!r}"


def _disk_problems(disk: Disk, *, implicit: frozenset[str], complete: bool) -> Iterator[str]:
    where = disk.where or f"disk {disk.id}"
    value = disk.id_value
    if (complete and not value.strip()) or not value.isprintable():
        yield f"{where}.id.value: it is empty, or has a control character"
    elif value and disk.id_kind is DiskIdKind.SCSI and not _SCSI.fullmatch(value):
        yield f"{where}.id.value: {value!r} is not host:channel:target:LUN"
    if complete and not disk.partitions and not implicit:
        yield f"{where}.volumes: there is none, so nothing is known to be done with this disk: leave it out"
    yield from _together_problems(where, disk.partitions)
    for each in disk.partitions:
        if isinstance(each, Member):
            yield from (f"{each.where or 'pv'}.size: {problem}" for problem in size_problems(each.size))
        elif each.name in implicit:
            yield f"{each.where or where}.name: {each.name!r} is a partition that is there by itself"


def _together_problems(where: str, volumes: Sequence[Volume | Member]) -> Iterator[str]:
    rest = sum(isinstance(each.size, Remaining) for each in volumes)
    if rest > 1:
        yield f"{where}.volumes: {rest} of them claim what remains, and one can"
    yield from _repeated(
        f"{where}.volumes", "have the name", [each.name for each in volumes if isinstance(each, Volume)]
    )


def _repeated(where: str, verb: str, names: Iterable[str]) -> Iterator[str]:
    for name, times in Counter(names).items():
        if name and times > 1:
            yield f"{where}: {times} of them {verb} {name!r}"


def _plain_id(disk: Disk) -> str:
    value = disk.id_value
    if disk.id_kind in {DiskIdKind.NAME, DiskIdKind.PATH}:
        value = value.removeprefix("/dev/")
    return f"{disk.id_kind}={value}"


def _layout_problems(description: MultiImage) -> Iterator[str]:
    try:
        arrange(description, firmwares=frozenset(Firmware)).storage.check()
    except LayoutInvalid as error:
        yield from (f"partitions: {problem}" for problem in error.problems)
