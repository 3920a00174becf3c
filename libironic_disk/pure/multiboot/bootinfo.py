"""boot-info.json as values: which systems there are, and which one boots.

The keys are those of the multi-image specification. What this library adds is apart, under one key of its own, and what
somebody else added stays where it was. docs/boot-info-schema.json is the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.boot.menurecord import MenuRecord
from libironic_disk.pure.multiboot import jsonvalues
from libironic_disk.pure.multiboot.jsonvalues import JsonValue
from libironic_disk.pure.multiboot.resolving import resolve

OUR_KEY: Final = "libironic_disk"
VERSION: Final = 1
KIND: Final = "boot info"

_TEXTS: Final = ("image_name", "os_id", "image_uuid", "boot_name", "root_uuid")
_OURS: Final = ("entry_id", "kernel", "initrd", "parameters")
_NO_NUMBER: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BootElement:
    """One system.

    Attributes:
        grub_id: the number of its entry in the menu, from 0.
        image_name: as its owner calls the image; may be empty.
        os_id: as the description calls the image.
        image_uuid: of the image; may be empty.
        boot_name: the title of its entry.
        root_uuid: of its root file system.
        entry_id: of its entry, which stays the same when numbers change; empty in a document of Bareon's.
        kernel: the path that GRUB loads.
        initrd: likewise.
        parameters: the kernel's command line.
        unknown: keys of somebody else; those beside ours under ``libironic_disk`` are in an object of that name.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "unknown", jsonvalues.freeze(self.unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class BootInfo:
    """All systems of a machine.

    Attributes:
        elements: the systems, in the order of the menu.
        current_element: the ``grub_id`` of the one that boots, which is not its place in ``elements``.
        multiboot_partition: the UUID of the file system that GRUB and its menu are on.
        version: of what this library adds; 0 in a document of Bareon's, which has nothing of it.
        unknown: keys of somebody else, as in an element.
    """

    elements: tuple[BootElement, ...]
    current_element: int
    multiboot_partition: str
    version: int = VERSION
    unknown: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unknown", jsonvalues.freeze(self.unknown))

    @property
    def current(self) -> BootElement | None:
        """The system that boots. Bareon's documents may have none: it wrote 0 where it did not find the image."""
        return next((each for each in self.elements if each.grub_id == self.current_element), None)

    def element(self, key: str | int) -> BootElement:
        """Return the system with this ``entry_id``, ``image_uuid``, ``image_name``, ``os_id`` or ``grub_id``.

        Raises:
            EntryUnknown: no system is called so, or several are.
        """
        return resolve(self.elements, key)


def of(record: MenuRecord, *, default: str = "") -> BootInfo:
    """Return what a menu says: an element for each image with an entry, which is its first.

    Args:
        record: of the menu.
        default: the id of the entry that boots, where it isn't the record's own. Where that is an older kernel of an
            image, ``current_element`` is the image's element all the same: no other one stands for it.

    Raises:
        KeyError: ``default`` is no entry of the menu.
    """
    elements: dict[str, BootElement] = {}
    for number, each in enumerate(record.entries):
        if each.image in elements:
            continue
        image = record.image(each.image)
        elements[each.image] = BootElement(
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
    return BootInfo(
        elements=tuple(elements.values()),
        current_element=elements[record.image_of(default or record.default)].grub_id,
        multiboot_partition=record.multiboot_uuid,
    )


def as_json(info: BootInfo) -> str:
    """Return the document; the same value gives the same bytes.

    Raises:
        DocumentInvalid: it would be refused when it is read; with every defect.
    """
    beside = _object(info.unknown.get(OUR_KEY, {}), OUR_KEY, [])
    document: dict[str, JsonValue] = {
        **info.unknown,
        "elements": [_element(each) for each in info.elements],
        "current_element": info.current_element,
        "multiboot_partition": info.multiboot_partition,
    }
    if info.version:
        document[OUR_KEY] = {**beside, "version": info.version}
    text = jsonvalues.dump(document, kind=KIND)
    parse(text)
    return text


def _element(element: BootElement) -> dict[str, JsonValue]:
    beside = _object(element.unknown.get(OUR_KEY, {}), OUR_KEY, [])
    ours = {**beside, **{name: getattr(element, name) for name in _OURS if getattr(element, name)}}
    texts: dict[str, JsonValue] = {name: getattr(element, name) for name in _TEXTS}
    return {**element.unknown, "grub_id": element.grub_id, **texts, **({OUR_KEY: ours} if ours else {})}


def parse(text: str) -> BootInfo:
    """Read a document of this library's or of Bareon's, which called the file ``boot_entries.json``.

    Raises:
        DocumentInvalid: with every defect, each after its path.
    """
    document = jsonvalues.load(text, kind=KIND)
    if not isinstance(document, dict):
        raise DocumentInvalid(kind=KIND, problems=("the document is no object",))
    problems: list[str] = []
    info = _info(document, problems)
    if problems:
        raise DocumentInvalid(kind=KIND, problems=tuple(problems))
    return info


def _info(fields: Mapping[str, JsonValue], problems: list[str]) -> BootInfo:
    ours = _object(fields.get(OUR_KEY, {}), OUR_KEY, problems)
    listed = fields.get("elements")
    if not isinstance(listed, list):
        problems.append(f"elements is {'no list' if 'elements' in fields else 'missing'}")
        listed = []
    info = BootInfo(
        elements=tuple(_read_element(each, f"elements[{at}]", problems) for at, each in enumerate(listed)),
        current_element=_number(fields, "current_element", "", problems),
        multiboot_partition=_text(fields, "multiboot_partition", "", problems),
        version=_number(ours, "version", f"{OUR_KEY}.", problems) if OUR_KEY in fields else 0,
        unknown=_unknown(fields, ("elements", "current_element", "multiboot_partition"), ours, ("version",)),
    )
    problems.extend(_contradictions(info, written_by_us=OUR_KEY in fields))
    return info


def _contradictions(info: BootInfo, *, written_by_us: bool) -> Iterator[str]:
    if written_by_us and info.version not in (VERSION, _NO_NUMBER):
        yield f"{OUR_KEY}.version is {info.version}, and this library knows {VERSION}"
    # Not where the number that it ought to be may be the one that could not be read.
    complete = _NO_NUMBER not in {info.current_element, *(each.grub_id for each in info.elements)}
    # 0 is also what Bareon wrote where it did not find the image that was to boot.
    excused = not written_by_us and info.current_element == 0
    if info.elements and complete and info.current is None and not excused:
        yield f"current_element is {info.current_element}, which is no element's grub_id"


def _read_element(document: JsonValue, path: str, problems: list[str]) -> BootElement:
    if not isinstance(document, dict):
        problems.append(f"{path} is no object")
        # That all its keys are missing then goes without saying.
        document, problems = {}, []
    ours = _object(document.get(OUR_KEY, {}), f"{path}.{OUR_KEY}", problems)
    return BootElement(
        grub_id=_number(document, "grub_id", f"{path}.", problems),
        **{name: _text(document, name, f"{path}.", problems) for name in _TEXTS},
        **{name: _text({name: "", **ours}, name, f"{path}.{OUR_KEY}.", problems) for name in _OURS},
        unknown=_unknown(document, ("grub_id", *_TEXTS), ours, _OURS),
    )


def _object(value: JsonValue, path: str, problems: list[str]) -> Mapping[str, JsonValue]:
    if isinstance(value, Mapping):
        return value
    problems.append(f"{path} is no object")
    return {}


def _text(fields: Mapping[str, JsonValue], name: str, path: str, problems: list[str]) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    problems.append(f"{path}{name} is {'missing' if name not in fields else 'no text'}")
    return ""


def _number(fields: Mapping[str, JsonValue], name: str, path: str, problems: list[str]) -> int:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    problems.append(f"{path}{name} is {'missing' if name not in fields else 'no number from 0 on'}")
    return _NO_NUMBER


def _unknown(
    fields: Mapping[str, JsonValue], known: Sequence[str], ours: Mapping[str, JsonValue], known_ours: Sequence[str]
) -> Mapping[str, JsonValue]:
    others = {name: value for name, value in fields.items() if name not in (*known, OUR_KEY)}
    beside = {name: value for name, value in ours.items() if name not in known_ours}
    return {**others, **({OUR_KEY: beside} if beside else {})}
