"""boot-info.json as values: which systems there are, and which one boots.

The keys are those of the multi-image specification. What this library adds is apart, under one key of its own, and what
somebody else added stays where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.boot.menurecord import MenuRecord

OUR_KEY: Final = "libironic_disk"
VERSION: Final = 1

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

_TEXTS: Final = ("image_name", "os_id", "image_uuid", "boot_name", "root_uuid")
_OURS: Final = ("entry_id", "kernel", "initrd", "parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootElement:
    """One system.

    Attributes:
        grub_id: the number of its entry in the menu, from 0.
        image_name: as its owner calls the image.
        os_id: as the description calls the image.
        image_uuid: of the image.
        boot_name: the title of its entry.
        root_uuid: of its root file system.
        entry_id: of its entry, which stays the same when numbers change; empty in a document of Bareon's.
        kernel: the path that GRUB loads.
        initrd: likewise.
        parameters: the kernel's command line.
        unknown: keys of somebody else.
    """

    grub_id: int
    image_name: str
    os_id: str
    image_uuid: str
    boot_name: str
    root_uuid: str
    entry_id: str = ""
    kernel: str = ""
    initrd: str = ""
    parameters: str = ""
    unknown: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootInfo:
    """All systems of a machine.

    Attributes:
        elements: the systems, in the order of the menu.
        current_element: the ``grub_id`` of the one that boots.
        multiboot_partition: the UUID of the file system that GRUB and its menu are on.
        unknown: keys of somebody else.
    """

    elements: tuple[BootElement, ...]
    current_element: int
    multiboot_partition: str
    unknown: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)


def of(record: MenuRecord, *, default: str = "") -> BootInfo:
    """Return what a menu says: an element for each image with an entry, which is its first.

    Args:
        record: of the menu.
        default: the id of the entry that boots, where it isn't the record's own.
    """
    elements: list[BootElement] = []
    for number, each in enumerate(record.entries):
        if each.image in {element.os_id for element in elements}:
            continue
        image = record.image(each.image)
        elements.append(
            BootElement(
                grub_id=number,
                image_name=image.image_name,
                os_id=image.name,
                image_uuid=image.image_uuid,
                boot_name=each.entry.title,
                root_uuid=image.root.uuid,
                entry_id=each.entry.id,
                kernel=each.entry.kernel,
                initrd=each.entry.initrd,
                parameters=str(each.entry.parameters),
            )
        )
    return BootInfo(
        elements=tuple(elements),
        current_element=record.menu.index(default or record.default),
        multiboot_partition=record.multiboot_uuid,
    )


def as_json(info: BootInfo) -> str:
    """Return the document; the same value gives the same bytes."""
    document = {
        "elements": [_element(each) for each in info.elements],
        "current_element": info.current_element,
        "multiboot_partition": info.multiboot_partition,
        OUR_KEY: {"version": VERSION},
        **info.unknown,
    }
    return json.dumps(document, indent=4, ensure_ascii=False, sort_keys=True) + "\n"


def _element(element: BootElement) -> dict[str, JsonValue]:
    ours: dict[str, JsonValue] = {name: getattr(element, name) for name in _OURS if getattr(element, name)}
    values: dict[str, JsonValue] = {name: getattr(element, name) for name in _TEXTS}
    return {"grub_id": element.grub_id, **values, **({OUR_KEY: ours} if ours else {}), **element.unknown}


def parse(text: str) -> BootInfo:
    """Read a document of this library's or of Bareon's.

    Raises:
        DocumentInvalid: with every defect, each after its path.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentInvalid(kind="boot info", problems=(f"it is no JSON ({error})",)) from error
    problems: list[str] = []
    info = _info(document, problems)
    if problems:
        raise DocumentInvalid(kind="boot info", problems=tuple(problems))
    return info


def _info(document: object, problems: list[str]) -> BootInfo:
    fields = _object(document, "the document", problems)
    ours = _object(fields.get(OUR_KEY, {}), OUR_KEY, problems)
    version = ours.get("version", VERSION)
    if version != VERSION:
        problems.append(f"{OUR_KEY}.version is {version!r}, this library knows {VERSION}")
    listed = fields.get("elements", [])
    if not isinstance(listed, list):
        problems.append("elements is no list")
        listed = []
    elements = tuple(_read_element(each, f"elements[{at}]", problems) for at, each in enumerate(listed))
    current = _number(fields, "current_element", "", problems)
    if elements and current not in {each.grub_id for each in elements}:
        problems.append(f"current_element is {current}, which is no element's grub_id")
    return BootInfo(
        elements=elements,
        current_element=current,
        multiboot_partition=_text(fields, "multiboot_partition", "", problems),
        unknown=_unknown(fields, ("elements", "current_element", "multiboot_partition", OUR_KEY)),
    )


def _read_element(document: object, path: str, problems: list[str]) -> BootElement:
    fields = _object(document, path, problems)
    ours = _object(fields.get(OUR_KEY, {}), f"{path}.{OUR_KEY}", problems)
    return BootElement(
        grub_id=_number(fields, "grub_id", f"{path}.", problems),
        **{name: _text(fields, name, f"{path}.", problems) for name in _TEXTS},
        **{name: _text({name: "", **ours}, name, f"{path}.{OUR_KEY}.", problems) for name in _OURS},
        unknown=_unknown(fields, ("grub_id", *_TEXTS, OUR_KEY)),
    )


def _object(value: object, path: str, problems: list[str]) -> Mapping[str, object]:
    if isinstance(value, dict):
        return cast("Mapping[str, object]", value)
    problems.append(f"{path} is no object")
    return {}


def _text(fields: Mapping[str, object], name: str, path: str, problems: list[str]) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    problems.append(f"{path}{name} is {'missing' if name not in fields else 'no text'}")
    return ""


def _number(fields: Mapping[str, object], name: str, path: str, problems: list[str]) -> int:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    problems.append(f"{path}{name} is {'missing' if name not in fields else 'no number from 0 on'}")
    return 0


def _unknown(fields: Mapping[str, object], known: Sequence[str]) -> Mapping[str, JsonValue]:
    return dict(_others(fields, known))


def _others(fields: Mapping[str, object], known: Sequence[str]) -> Iterator[tuple[str, JsonValue]]:
    for name, value in fields.items():
        if name not in known:
            yield name, cast("JsonValue", value)
