"""The JSON of the multi-image specification, as Bareon's ``provision.json`` has it.

Every defect is collected before anything is refused, with its path in the document. Keys that nothing here knows are
left alone, as Bareon does, and said in the notes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar, cast

from libironic_disk.errors import DescriptionInvalid, KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Remaining, Size
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
from libironic_disk.pure.multiboot.sizes import parse_bytes, parse_size

_T = TypeVar("_T")

TOP_KEYS: Final = ("images", "partitions", "disks", "partitions_policy", "deploy_data", "image_deploy_flags")
IMAGE_KEYS: Final = ("name", "boot", "image_name", "image_uuid", "image_pull_url", "target")
DISK_KEYS: Final = ("type", "id", "size", "volumes", "name")
GROUP_KEYS: Final = ("type", "id", "volumes", "label", "min_size", "keep_data")
VOLUME_KEYS: Final = (
    *("type", "name", "size", "mount", "images", "file_system"),
    *("fstab_enabled", "fstab_options", "keep_data", "vg", "lvm_meta_size", "disk_label"),
)
_NO_MOUNT: Final = "none"
_FILE_SYSTEMS: Final[Mapping[str, FileSystem]] = {each.value: each for each in FileSystem} | {
    "fat": FileSystem.VFAT,
    "fat32": FileSystem.VFAT,
}
_NOT_HERE: Final = {
    "raid": "mirrors of several disks are made by libironic_disk.volumes, and not from this document",
    "boot": "what firmware needs is made by itself",
    "lvm_meta_pool": "it is no partition",
}


def read(document: str | bytes | Mapping[str, object]) -> MultiImage:
    """Read a description of several images.

    Args:
        document: JSON text, or what JSON text becomes.

    Raises:
        DescriptionInvalid: with every defect.
    """
    reader = _Reader()
    described = reader.description(_loaded(document))
    problems = (*reader.problems, *(checking.problems(described) if not reader.problems else ()))
    if problems:
        raise DescriptionInvalid(problems=problems)
    return described


def _loaded(document: str | bytes | Mapping[str, object]) -> object:
    if isinstance(document, Mapping):
        return document
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise DescriptionInvalid(problems=(f"it is no JSON: {error}",)) from error


class _Reader:
    """Collects defects and notes while values are made; what is wrong becomes some value of the right type."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._notes: list[str] = []

    def description(self, document: object) -> MultiImage:
        fields = self._object(document, "the document", TOP_KEYS)
        images = tuple(
            self._image(each, f"images[{at}]") for at, each in enumerate(self._list(fields, "images", required=True))
        )
        where = "partitions" if "partitions" in fields or "disks" not in fields else "disks"
        spaces = self._list(fields, where, required=True)
        first = images[0].name if images else ""
        disks: list[Disk] = []
        groups: list[Group] = []
        for at, each in enumerate(spaces):
            space = each if isinstance(each, dict) else {}
            if space.get("type") == "vg":
                groups.append(self._group(each, f"{where}[{at}]", first))
            else:
                disks.append(self._disk(each, f"{where}[{at}]", first))
        booting = [image.name for image in images if image.boot]
        if images and not booting:
            self._notes.append(f"no image says that it boots: {first!r}, the first one, does")
        if images and first and not all("images" in each for each in _volumes_in(spaces)):
            self._notes.append(f"volumes that name no image belong to {first!r}, the first one")
        return MultiImage(
            images=images,
            disks=tuple(disks),
            groups=tuple(groups),
            default=booting[0] if booting else first,
            policy=self._word(PartitionsPolicy, fields, "partitions_policy", PartitionsPolicy.CLEAN),
            kernel_parameters=self._parameters(fields),
            notes=tuple(self._notes),
        )

    def _image(self, document: object, path: str) -> Image:
        fields = self._object(document, path, IMAGE_KEYS)
        boot = fields.get("boot", False)
        if not isinstance(boot, int) or boot not in (0, 1):
            self.problems.append(f"{path}.boot is {_said(boot)}: true or false is wanted")
        return Image(
            name=self._text(fields, path, "name"),
            pull_url=self._text(fields, path, "image_pull_url"),
            target=self._text(fields, path, "target", default="/"),
            boot=boot in (1, True),
            image_name=self._text(fields, path, "image_name", default=""),
            image_uuid=self._text(fields, path, "image_uuid", default=""),
        )

    def _disk(self, document: object, path: str, first: str) -> Disk:
        fields = self._object(document, path, DISK_KEYS)
        if fields.get("type", "disk") != "disk":
            self.problems.append(f"{path}.type is {_said(fields['type'])}: 'disk' or 'vg' is wanted")
        id_kind, id_value = self._disk_id(fields.get("id"), f"{path}.id")
        partitions = [
            self._partition(each, f"{path}.volumes[{at}]", first)
            for at, each in enumerate(self._list(fields, "volumes", path=f"{path}.", required=True))
        ]
        return Disk(
            id_kind=id_kind,
            id_value=id_value,
            partitions=tuple(_named([each for each in partitions if each is not None])),
            size=self._text(fields, path, "size", default=""),
        )

    def _disk_id(self, document: object, path: str) -> tuple[DiskIdKind, str]:
        fields = self._object(document, path, ("type", "value"))
        kind = self._word(DiskIdKind, fields, "type", DiskIdKind.NAME, path=f"{path}.", required=True)
        value = self._text(fields, path, "value")
        if kind is DiskIdKind.SIZE and value:
            try:
                value = str(parse_bytes(value))
            except ValueError as error:
                self.problems.append(f"{path}.value: {error}")
        return kind, value

    def _group(self, document: object, path: str, first: str) -> Group:
        fields = self._object(document, path, GROUP_KEYS)
        volumes = []
        for at, each in enumerate(self._list(fields, "volumes", path=f"{path}.", required=True)):
            where = f"{path}.volumes[{at}]"
            own = self._object(each, where, VOLUME_KEYS)
            if own.get("type", "lv") != "lv":
                self.problems.append(f"{where}.type is {_said(own['type'])}: a group has volumes of the type 'lv'")
            name = self._text(fields, path, "id")
            volumes.append(self._volume(own, where, first, name=self._text(own, where, "name"), group=name))
        return Group(name=self._text(fields, path, "id"), volumes=tuple(volumes))

    def _partition(self, document: object, path: str, first: str) -> Volume | Member | None:
        fields = self._object(document, path, VOLUME_KEYS)
        kind = fields.get("type", "partition")
        if kind == "pv":
            return Member(group=self._text(fields, path, "vg"), size=self._size(fields, path))
        if kind != "partition":
            reason = _NOT_HERE.get(str(kind), "'partition', 'pv' or 'lv' is wanted")
            self.problems.append(f"{path}.type is {_said(kind)}: {reason}")
            return None
        return self._volume(fields, path, first, name=self._text(fields, path, "name", default=""), group="")

    def _volume(self, fields: Mapping[str, object], path: str, first: str, *, name: str, group: str) -> Volume:
        mount = self._text(fields, path, "mount", default=_NO_MOUNT)
        return Volume(
            name=name,
            size=self._size(fields, path),
            mount=None if mount in {_NO_MOUNT, ""} else mount,
            images=self._images(fields, path, first),
            filesystem=self._file_system(fields, path, mount),
            fstab_enabled=self._flag(fields, path, "fstab_enabled", default=True),
            fstab_options=self._text(fields, path, "fstab_options", default="defaults") or "defaults",
            keep_data=self._flag(fields, path, "keep_data", default=True),
            group=group,
        )

    def _images(self, fields: Mapping[str, object], path: str, first: str) -> tuple[str, ...]:
        if "images" not in fields:
            return (first,)
        listed = fields["images"]
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            # A text would otherwise be taken for the list of its letters.
            self.problems.append(f"{path}.images is {_said(listed)}: a list of names of images is wanted")
            return ()
        return tuple(cast("list[str]", listed))

    def _file_system(self, fields: Mapping[str, object], path: str, mount: str) -> FileSystem | None:
        if mount == "swap":
            return FileSystem.SWAP
        name = self._text(fields, path, "file_system", default="")
        if name and name not in _FILE_SYSTEMS:
            self.problems.append(f"{path}.file_system is {name!r}: {', '.join(_FILE_SYSTEMS)} can be made")
        return _FILE_SYSTEMS.get(name)

    def _size(self, fields: Mapping[str, object], path: str) -> Size:
        value = fields.get("size")
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            self.problems.append(f"{path}.size is {'missing' if value is None else _said(value)}: a text is wanted")
            return Remaining()
        try:
            return parse_size(value)
        except ValueError as error:
            self.problems.append(f"{path}.size: {error}")
            return Remaining()

    def _parameters(self, fields: Mapping[str, object]) -> KernelParameters:
        data = self._object(fields.get("deploy_data", {}), "deploy_data", ("kernel_params",))
        try:
            return KernelParameters.parse(self._text(data, "deploy_data", "kernel_params", default=""))
        except KernelParametersInvalid as error:
            self.problems.append(f"deploy_data.kernel_params: {error}")
            return KernelParameters()

    def _word(
        self,
        kind: type[_T],
        fields: Mapping[str, object],
        name: str,
        default: _T,
        *,
        path: str = "",
        required: bool = False,
    ) -> _T:
        if name not in fields and not required:
            return default
        words = {str(word): word for word in cast("Sequence[_T]", list(kind))}  # type: ignore[call-overload]
        value = fields.get(name)
        if not isinstance(value, str) or value not in words:
            self.problems.append(f"{path}{name} is {_said(value)}: one of {', '.join(words)} is wanted")
            return default
        return words[value]

    def _object(self, value: object, path: str, known: Sequence[str]) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            self.problems.append(f"{path} is {_said(value)}: an object is wanted")
            return {}
        if unknown := sorted(str(name) for name in value if name not in known):
            self._notes.append(f"{path}: nothing here knows {', '.join(map(repr, unknown))}")
        return cast("Mapping[str, object]", value)

    def _list(self, fields: Mapping[str, object], name: str, *, path: str = "", required: bool) -> list[object]:
        value = fields.get(name)
        if isinstance(value, list):
            return cast("list[object]", value)
        if required or name in fields:
            self.problems.append(
                f"{path}{name} is {'missing' if name not in fields else _said(value)}: a list is wanted"
            )
        return []

    def _text(self, fields: Mapping[str, object], path: str, name: str, *, default: str | None = None) -> str:
        value = fields.get(name, default)
        if isinstance(value, str):
            return value
        self.problems.append(f"{path}.{name} is {'missing' if name not in fields else _said(value)}: a text is wanted")
        return ""

    def _flag(self, fields: Mapping[str, object], path: str, name: str, *, default: bool) -> bool:
        value = fields.get(name, default)
        if not isinstance(value, bool):
            self.problems.append(f"{path}.{name} is {_said(value)}: true or false is wanted")
            return default
        return value


def _said(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _volumes_in(spaces: Sequence[object]) -> Iterator[Mapping[str, object]]:
    for space in spaces:
        volumes = space.get("volumes") if isinstance(space, dict) else None
        for each in volumes if isinstance(volumes, list) else ():
            if isinstance(each, dict) and each.get("type") != "pv":
                yield each


def _named(partitions: Sequence[Volume | Member]) -> Iterator[Volume | Member]:
    """Give a name to every volume without one: what it is mounted at, and for whom."""
    taken = {each.name for each in partitions if isinstance(each, Volume) and each.name}
    for number, each in enumerate(partitions, 1):
        if isinstance(each, Member) or each.name:
            yield each
            continue
        words = "root" if each.mount == "/" else (each.mount or "volume")
        owner = each.images[0] if len(each.images) == 1 else ""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{words}-{owner}").strip("-")[:28].strip("-") or "volume"
        name = stem if stem not in taken else f"{stem}-{number}"
        taken.add(name)
        yield replace(each, name=name)
