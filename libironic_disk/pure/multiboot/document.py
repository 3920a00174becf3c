"""The JSON of the multi-image specification, as Bareon's ``provision.json`` has it.

Every defect is collected before anything is refused, with its path in the document. Keys that nothing here knows are
left alone, as Bareon does, and said in the notes. ``docs/multi-image-schema.json`` describes the same keys.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from libironic_disk.errors import DescriptionInvalid, KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Exact, Size
from libironic_disk.pure.multiboot import checking
from libironic_disk.pure.multiboot.description import (
    Disk,
    DiskIdKind,
    Group,
    Image,
    Member,
    MultiImage,
    PartitionsPolicy,
    Volume,
)
from libironic_disk.pure.multiboot.fields import Fields, Findings, said
from libironic_disk.pure.multiboot.sizes import parse_bytes, parse_size
from libironic_disk.units import MIB

TOP_KEYS: Final = ("images", "partitions", "disks", "partitions_policy", "deploy_data")
TOP_UNUSED: Final = ("image_deploy_flags",)
DATA_KEYS: Final = ("kernel_params",)
IMAGE_KEYS: Final = ("name", "boot", "image_name", "image_uuid", "image_pull_url", "image_checksum", "target")
ID_KEYS: Final = ("type", "value")
DISK_KEYS: Final = ("type", "id", "size", "volumes")
DISK_UNUSED: Final = ("name",)
GROUP_KEYS: Final = ("type", "id", "volumes")
GROUP_UNUSED: Final = ("label", "min_size", "keep_data")
VOLUME_KEYS: Final = (
    *("type", "name", "size", "mount", "images", "file_system"),
    *("fstab_enabled", "fstab_options", "keep_data", "vg"),
)
VOLUME_UNUSED: Final = ("lvm_meta_size", "disk_label")

_NO_MOUNT: Final = "none"
_SWAP: Final = "swap"
_FILE_SYSTEMS: Final[Mapping[str, FileSystem]] = {each.value: each for each in FileSystem} | {
    "fat": FileSystem.VFAT,
    "fat32": FileSystem.VFAT,
}
_NO_POLICIES: Final = {
    "nailgun_legacy": "it decides by what is on the disks whether they are partitioned at all; say clean or verify"
}
_NO_TYPES: Final = {
    "raid": "mirrors of several disks are made by libironic_disk.volumes, and not from this document",
    "boot": "what firmware and GRUB need is made by itself",
    "lvm_meta_pool": "it is no partition",
    "lv": "a logical volume belongs in an element of the type 'vg'",
}
# Stands for a size that can't be read: were it "remaining", it would clash with another one.
_SOME_SIZE: Final = Exact(size=1024 * MIB)


def read(document: str | bytes | Mapping[str, object]) -> MultiImage:
    """Read a description of several images.

    Without ``partitions_policy`` it is ``clean``, the only one that is carried out. Bareon's default is ``verify``: a
    note says that this one differs.

    Args:
        document: JSON text, or what JSON text becomes.

    Raises:
        DescriptionInvalid: with every defect, each after its path.
    """
    findings = Findings()
    described = _description(_loaded(document), findings)
    problems = (*findings.problems, *checking.problems(described, complete=not findings.problems))
    if problems:
        raise DescriptionInvalid(problems=problems)
    return described


def _loaded(document: str | bytes | Mapping[str, object]) -> object:
    if isinstance(document, Mapping):
        return document
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise DescriptionInvalid(problems=(f"the document: it is no JSON ({error})",)) from error


def _description(document: object, findings: Findings) -> MultiImage:
    fields = Fields.of(document, "", findings, known=TOP_KEYS, unused=TOP_UNUSED)
    images = tuple(_image(each, f"images[{at}]", findings) for at, each in enumerate(fields.items("images")))
    first = images[0].name if images else ""
    disks, groups = _spaces(fields, first)
    booting = [image.name for image in images if image.boot]
    described = MultiImage(
        images=images,
        disks=disks,
        groups=groups,
        default=booting[0] if booting else first,
        policy=fields.word(PartitionsPolicy, "partitions_policy", default=PartitionsPolicy.CLEAN, reasons=_NO_POLICIES),
        kernel_parameters=_parameters(fields),
    )
    notes = (*findings.notes, *_assumptions(fields, images))
    return replace(described, notes=notes)


def _assumptions(fields: Fields, images: Sequence[Image]) -> Iterator[str]:
    if "partitions_policy" not in fields.values:
        yield "there is no partitions_policy: clean, so the disks are made anew (Bareon would have verified them)"
    if images and not any(image.boot for image in images):
        yield f"no image says that it boots: {images[0].name!r}, the first one, does"
    for uuid, times in Counter(image.image_uuid for image in images if image.image_uuid).items():
        if times > 1:
            names = [repr(image.name) for image in images if image.image_uuid == uuid]
            yield f"{', '.join(names)} have one image_uuid, {said(uuid)}: they are told apart by their names"


def _spaces(fields: Fields, first: str) -> tuple[tuple[Disk, ...], tuple[Group, ...]]:
    name = "disks" if "disks" in fields.values and "partitions" not in fields.values else "partitions"
    if "disks" in fields.values and name != "disks":
        fields.refuse("disks", "'partitions' is there as well, and is the same by its older name: leave one out")
    disks: list[Disk] = []
    groups: list[Group] = []
    owned = True
    for at, each in enumerate(fields.items(name)):
        path = f"{name}[{at}]"
        if isinstance(each, Mapping) and each.get("type") == "vg":
            groups.append(_group(each, path, first, fields.findings))
        else:
            disks.append(_disk(each, path, first, fields.findings))
        owned = owned and (not isinstance(each, Mapping) or all(_names_images(each)))
    if first and not owned:
        fields.findings.notes.append(f"volumes that name no image belong to {first!r}, the first one")
    return tuple(disks), tuple(groups)


def _names_images(space: Mapping[str, object]) -> Iterator[bool]:
    volumes = space.get("volumes")
    for each in volumes if isinstance(volumes, list | tuple) else ():
        if isinstance(each, Mapping) and each.get("type") != "pv":
            yield "images" in each


def _image(document: object, path: str, findings: Findings) -> Image:
    fields = Fields.of(document, path, findings, known=IMAGE_KEYS)
    return Image(
        name=fields.text("name"),
        pull_url=fields.text("image_pull_url"),
        target=fields.text("target", default="/"),
        boot=fields.flag("boot", default=False),
        image_name=fields.text("image_name", default=""),
        image_uuid=fields.text("image_uuid", default=""),
        image_checksum=fields.text("image_checksum", default=""),
        where=path,
    )


def _disk(document: object, path: str, first: str, findings: Findings) -> Disk:
    fields = Fields.of(document, path, findings, known=DISK_KEYS, unused=DISK_UNUSED)
    if fields.values.get("type", "disk") != "disk":
        fields.refuse("type", f"{said(fields.values['type'])} where 'disk' or 'vg' is wanted")
    size = fields.number_as_text("size", default="")
    if size:
        _bytes(fields, "size", size)
    id_kind, id_value = _disk_id(fields)
    partitions = [
        _partition(each, f"{path}.volumes[{at}]", first, findings) for at, each in enumerate(fields.items("volumes"))
    ]
    return Disk(
        id_kind=id_kind,
        id_value=id_value,
        partitions=tuple(_named([each for each in partitions if each is not None])),
        size=size,
        where=path,
    )


def _disk_id(disk: Fields) -> tuple[DiskIdKind, str]:
    if "id" not in disk.values:
        disk.refuse("id", "an object is missing")
        return DiskIdKind.NAME, ""
    fields = Fields.of(disk.values["id"], disk.at("id"), disk.findings, known=ID_KEYS)
    kind = fields.word(DiskIdKind, "type", default=DiskIdKind.NAME, reasons={}, required=True)
    if kind is DiskIdKind.SIZE:
        value = fields.number_as_text("value")
        return kind, _bytes(fields, "value", value) if value else ""
    return kind, fields.text("value")


def _bytes(fields: Fields, name: str, value: str) -> str:
    try:
        return str(parse_bytes(value))
    except ValueError as error:
        fields.refuse(name, str(error))
        return ""


def _group(document: object, path: str, first: str, findings: Findings) -> Group:
    fields = Fields.of(document, path, findings, known=GROUP_KEYS, unused=GROUP_UNUSED)
    group = fields.text("id")
    volumes = []
    for at, each in enumerate(fields.items("volumes")):
        own = Fields.of(each, f"{path}.volumes[{at}]", findings, known=VOLUME_KEYS, unused=VOLUME_UNUSED)
        if own.values.get("type", "lv") != "lv":
            own.refuse("type", f"{said(own.values['type'])} where 'lv' is wanted: a group has nothing else")
        volumes.append(_volume(own, first, name=own.text("name"), group=group))
    return Group(name=group, volumes=tuple(volumes), where=path)


def _partition(document: object, path: str, first: str, findings: Findings) -> Volume | Member | None:
    fields = Fields.of(document, path, findings, known=VOLUME_KEYS, unused=VOLUME_UNUSED)
    kind = fields.values.get("type", "partition")
    if kind == "pv":
        return Member(group=fields.text("vg"), size=_size(fields), where=path)
    if kind != "partition":
        reason = _NO_TYPES.get(kind) if isinstance(kind, str) else None
        fields.refuse(
            "type", f"{said(kind)} " + (f"is refused: {reason}" if reason else "where 'partition' or 'pv' is wanted")
        )
        return None
    return _volume(fields, first, name=fields.text("name", default=""), group="")


def _volume(fields: Fields, first: str, *, name: str, group: str) -> Volume:
    mount = fields.text("mount", default=_NO_MOUNT)
    return Volume(
        name=name,
        size=_size(fields),
        mount=None if mount in {_NO_MOUNT, ""} else mount,
        images=fields.texts("images") if "images" in fields.values else (first,),
        filesystem=_file_system(fields, mount),
        fstab_enabled=fields.flag("fstab_enabled", default=True),
        fstab_options=fields.text("fstab_options", default="defaults") or "defaults",
        keep_data=fields.flag("keep_data", default=True),
        group=group,
        where=fields.path,
    )


def _file_system(fields: Fields, mount: str) -> FileSystem | None:
    name = fields.text("file_system", default="")
    if name and name not in _FILE_SYSTEMS:
        fields.refuse("file_system", f"{said(name)} can't be made; {', '.join(_FILE_SYSTEMS)} can")
        # Some file system was meant, so nothing else should be said about a volume that has none.
        return FileSystem.EXT4
    return FileSystem.SWAP if mount == _SWAP else _FILE_SYSTEMS.get(name)


def _size(fields: Fields) -> Size:
    value = fields.number_as_text("size")
    if not value:
        return _SOME_SIZE
    try:
        return parse_size(value)
    except ValueError as error:
        fields.refuse("size", str(error))
        return _SOME_SIZE


def _parameters(fields: Fields) -> KernelParameters:
    data = Fields.of(fields.values.get("deploy_data", {}), "deploy_data", fields.findings, known=DATA_KEYS)
    try:
        return KernelParameters.parse(data.text("kernel_params", default=""))
    except KernelParametersInvalid as error:
        data.refuse("kernel_params", str(error))
        return KernelParameters()


def _named(partitions: Sequence[Volume | Member]) -> Iterator[Volume | Member]:
    """Give a name to every volume without one: what it is mounted at, and for whom."""
    taken = {each.name for each in partitions if isinstance(each, Volume)}
    for each in partitions:
        if isinstance(each, Member) or each.name:
            yield each
            continue
        words = "root" if each.mount == "/" else (each.mount or "volume")
        owner = each.images[0] if len(each.images) == 1 else ""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{words}-{owner}").strip("-")[:27].strip("-") or "volume"
        tries = (stem, *(f"{stem}-{number}" for number in range(2, len(partitions) + 2)))
        name = next(name for name in tries if name not in taken | checking.RESERVED)
        taken.add(name)
        yield replace(each, name=name)
