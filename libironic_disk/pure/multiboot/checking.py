"""What in a description contradicts itself: everything that can be seen without a disk or an image."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Remaining, Size, size_problems
from libironic_disk.pure.multiboot.description import MULTIBOOT, Image, Member, MultiImage, Volume

_SCHEMES: Final = frozenset({"http", "https", "file"})
_SWAP: Final = "swap"
# What partitions and logical volumes can both be called.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")


def problems(description: MultiImage) -> Iterator[str]:
    """Yield every contradiction of a description, each after what it is about."""
    yield from _image_problems(description.images)
    names = [image.name for image in description.images]
    if description.images and description.default not in names:
        yield f"images: {description.default!r} is to boot by default, and is none of them"
    for volume in description.volumes():
        yield from _volume_problems(volume, names)
    for image in description.images:
        yield from _mount_problems(image, description.volumes_of(image.name))
    yield from _place_problems(description)


def _image_problems(images: Sequence[Image]) -> Iterator[str]:
    if not images:
        yield "images: there is none"
    for name, times in Counter(image.name for image in images).items():
        if times > 1:
            yield f"images: {times} have the name {name!r}"
    booting = [image.name for image in images if image.boot]
    if len(booting) > 1:
        yield f"images: {', '.join(map(repr, booting))} are all to boot by default, and one can"
    for image in images:
        where = f"image {image.name!r}"
        for field in ("name", "image_name", "image_uuid"):
            text = getattr(image, field)
            if not text.isprintable() or (field == "name" and not text.strip()):
                yield f"{where}: {field} has a control character, or is empty"
        if urlsplit(image.pull_url).scheme.lower() not in _SCHEMES:
            yield f"{where}: image_pull_url is {image.pull_url!r}; http, https and file URLs are read"
        if image.target != "/":
            yield f"{where}: target is {image.target!r}; an image that is one file system is a root, written to '/'"


def _volume_problems(volume: Volume, names: Sequence[str]) -> Iterator[str]:
    where = f"volume {volume.name!r}"
    for name in volume.images:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, names)) or 'none'}"
            yield f"{where}: there is no image {name!r}{meant}"
    for name, times in Counter(volume.images).items():
        if times > 1:
            yield f"{where}: it lists the image {name!r} {times} times"
    yield from (f"{where}: {problem}" for problem in size_problems(volume.size))
    yield from (f"{where}: {problem}" for problem in _mount_words(volume))
    if volume.filesystem is FileSystem.SWAP and volume.mount != _SWAP:
        yield f"{where}: swap is mounted nowhere: its mount is 'swap'"
    if not _NAME.fullmatch(volume.name):
        yield f"{where}: {volume.name!r} is no name for a volume: 1 to 31 letters, digits, dots, dashes, underscores"
    if any(not character.isprintable() or character.isspace() for character in volume.fstab_options):
        yield f"{where}: fstab_options have white space or a control character"
    if volume.mount == "/" and len(volume.images) > 1:
        yield f"{where}: it is the root of several images, {', '.join(map(repr, volume.images))}"
    if volume.mount is not None and volume.mount not in {"/", _SWAP} and volume.filesystem is None:
        yield f"{where}: nothing says which file system is made on it"


def _mount_words(volume: Volume) -> Iterator[str]:
    mount = volume.mount
    if mount is None or mount == _SWAP:
        return
    if mount == MULTIBOOT:
        yield "the multiboot partition is there by itself, and no image mounts it"
    elif not mount.startswith("/") or not mount.isprintable():
        yield f"{mount!r} is no absolute path without control characters"
    elif mount != "/" and (mount.endswith("/") or any(part in {"", ".", ".."} for part in mount[1:].split("/"))):
        yield f"{mount!r} is no plain path: no '.', '..' or empty part"


def _mount_problems(image: Image, volumes: Sequence[Volume]) -> Iterator[str]:
    mounts = Counter(volume.mount for volume in volumes if volume.mount not in {None, _SWAP})
    for mount, times in mounts.items():
        if times > 1:
            yield f"image {image.name!r}: {times} volumes are mounted at {mount!r}"
    if "/" not in mounts:
        yield f"image {image.name!r}: no volume is its '/'"
    if "/boot" in mounts:
        yield (
            f"image {image.name!r}: a volume at '/boot' would hide the kernels, which are in the image: leave it out"
        )


def _place_problems(description: MultiImage) -> Iterator[str]:
    if not description.disks:
        yield "partitions: there is no disk"
    for at, times in Counter(disk.id for disk in description.disks).items():
        if times > 1:
            yield f"partitions: the disk {at} is there {times} times"
    members = Counter(each.group for disk in description.disks for each in disk.partitions if isinstance(each, Member))
    groups = Counter(group.name for group in description.groups)
    yield from (f"group {name!r}: it is there {times} times" for name, times in groups.items() if times > 1)
    yield from (f"group {name!r}: no partition is a pv of it" for name in groups if not members[name])
    yield from (f"group {name!r}: that is no name for a group" for name in groups if not _NAME.fullmatch(name))
    yield from (f"pv: there is no group {name!r}" for name in members if name not in groups)
    for disk in description.disks:
        yield from _rest_problems(f"disk {disk.id}", [each.size for each in disk.partitions])
        yield from _name_problems(
            f"disk {disk.id}", [each.name for each in disk.partitions if isinstance(each, Volume)]
        )
    for group in description.groups:
        yield from _rest_problems(f"group {group.name!r}", [each.size for each in group.volumes])
        yield from _name_problems(f"group {group.name!r}", [each.name for each in group.volumes])


def _rest_problems(where: str, sizes: Iterable[Size]) -> Iterator[str]:
    rest = [size for size in sizes if isinstance(size, Remaining)]
    if len(rest) > 1:
        yield f"{where}: {len(rest)} volumes claim what remains"


def _name_problems(where: str, names: Iterable[str]) -> Iterator[str]:
    yield from (
        f"{where}: {times} volumes have the name {name!r}" for name, times in Counter(names).items() if times > 1
    )
