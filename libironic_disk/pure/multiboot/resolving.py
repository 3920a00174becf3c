"""Which system is meant: by any of its names, and never by a guess."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from libironic_disk.errors import EntryUnknown


class Named(Protocol):
    """What has the names of a system; see :class:`~libironic_disk.pure.multiboot.bootinfo.BootElement`."""

    @property
    def grub_id(self) -> int:
        """The number of its entry in the menu."""

    @property
    def entry_id(self) -> str:
        """The id of its entry, or nothing."""

    @property
    def image_uuid(self) -> str:
        """The UUID of its image, or nothing."""

    @property
    def image_name(self) -> str:
        """The name of its image, or nothing."""

    @property
    def os_id(self) -> str:
        """How the description calls it."""


_Element = TypeVar("_Element", bound=Named)


def resolve(elements: Sequence[_Element], key: str | int) -> _Element:
    """Return the one system that is called so.

    An ``entry_id`` comes before the other names, which are all alike: where one is the name of this image and the
    ``os_id`` of that one, neither is meant. A text is never taken for a ``grub_id``, since an image may be called "2".

    Args:
        elements: the systems.
        key: an ``entry_id``, ``image_uuid``, ``image_name`` or ``os_id``; or a ``grub_id``, as a number.

    Raises:
        EntryUnknown: no system is called so, or several are.
    """
    found = list(_called(elements, key))
    if len(found) == 1:
        return found[0]
    raise EntryUnknown(
        key=str(key),
        reason="ambiguous" if found else "unknown",
        candidates=tuple(_in_words(each) for each in found or elements),
    )


def _called(elements: Sequence[_Element], key: str | int) -> Iterator[_Element]:
    if isinstance(key, int):
        # True would be entry 1.
        yield from (each for each in elements if each.grub_id == key and not isinstance(key, bool))
    # Bareon writes an empty text for an image without a name or a UUID: none is called so.
    elif key:
        ids = [each for each in elements if each.entry_id == key]
        yield from ids or (each for each in elements if key in (each.image_uuid, each.image_name, each.os_id))


def _in_words(element: Named) -> str:
    return f"{element.entry_id or element.grub_id} ({element.os_id})"
