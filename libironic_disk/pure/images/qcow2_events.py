"""What the decoder of a qcow2 stream gives, and what it asks for.

Every byte of the guest's disk is given exactly once, as :class:`Raw`, :class:`Compressed` or :class:`Zeros`, in any
order. The other events are requests: they are fulfilled before the next event is asked for. The guest's disk is where
the target begins; what is spilled there is recalled before the disk's own bytes are given, and never after.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.images.qcow2 import Compression


class MetadataAccess(StrEnum):
    """When tables can be read before they come by in the stream."""

    NEVER = "never"
    """The source has one order, and that is it."""
    LAZY = "lazy"
    """They can, at a price: only once something waits for them."""
    EAGER = "eager"
    """They can at any time, as in a local file: all of them at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes of the guest's disk. ``data`` is a part of what was pushed last, or belongs to nobody else."""

    guest_offset: int
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed cluster; :func:`~libironic_disk.pure.images.qcow2_inflate.inflate` gives its ``length`` bytes.

    ``length`` is less than ``cluster_size`` where the disk ends within the cluster. ``payload`` is a part of what was
    pushed last, or belongs to nobody else; ``host_offset`` is where it is in the file. ``cut`` says that the file ends
    within the payload's last sector: only the end of its stream then shows that nothing is missing.
    """

    guest_offset: int
    length: int
    kind: Compression
    payload: memoryview
    cluster_size: int
    host_offset: int
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """A range of the guest's disk that reads as zeros."""

    guest_offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WantMetadata:
    """Read these ranges ``(offset, length)`` of the file, in this order, and hand them to ``Decoder.give_metadata``."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """Keep these bytes at byte ``place`` of the target. ``data`` belongs to nobody."""

    place: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Hand ``length`` bytes from ``place`` of the target, all of them spilled before, to ``Decoder.give_spilled``.

    The range may be of several :class:`Spill` that followed each other there.
    """

    place: int
    length: int


Event = Raw | Compressed | Zeros | WantMetadata | Spill | Recall
