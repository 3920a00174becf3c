"""The header of a qcow2 image, read strictly.

Source of every fact: QEMU, docs/interop/qcow2.rst, sections "Header", "Additional fields" and "Header extensions"; the
limits of L1 and refcount table are those of QEMU's block/qcow2.h. What could make a reader open another file, trust a
damaged image or reserve memory without bound is refused here. Left alone are parts that a reader of the active disk
never follows: internal snapshots, bitmaps, refcounts with their dirty bit, and unknown header extensions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from libironic_disk.errors import ImageRefused
from libironic_disk.units import MIB, align_up

MAGIC: Final = b"QFI\xfb"
L1_ENTRY: Final = 8
"""Bytes of an L1 entry."""

_V2: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_V2_COUNT: Final = 13
_V3: Final = struct.Struct(">QQQII")
_EXTENSION: Final = struct.Struct(">II")
_CLUSTER_BITS: Final = range(9, 22)
_EXTENDED_L2_CLUSTER_BITS: Final = 14
_L1_LIMIT: Final = 32 * MIB
_REFCOUNT_TABLE_LIMIT: Final = 8 * MIB
_SNAPSHOT_LIMIT: Final = 65536
_LARGEST_REFCOUNT_ORDER: Final = 6
# The format's own sector, whatever the disk's is: sizes of disks and of compressed clusters count in it.
_SECTOR: Final = 512

_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2
_COMPRESSION: Final = 1 << 3
_EXTENDED_L2: Final = 1 << 4
_KNOWN_FEATURES: Final = 0b11111

_FORBIDDEN_EXTENSIONS: Final = {0x44415441: "an external data file", 0x0537BE77: "encryption"}


class Compression(IntEnum):
    """How compressed clusters are compressed; the values are those of the header's field."""

    ZLIB = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a reader needs to know; sizes and offsets are bytes.

    ``l1_entries`` counts the entries that map the disk: what the table holds behind them (a saved machine's memory)
    isn't part of it. ``l2_entry`` is the size of an L2 entry: 8, or 16 with extended L2 entries.
    """

    version: int
    virtual_size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    l2_entry: int
    refcount_table_offset: int
    refcount_table_size: int
    compression: Compression

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """Whether every cluster is divided into 32 subclusters."""
        return self.l2_entry == 16

    @property
    def l2_covers(self) -> int:
        """Bytes of the disk that one L2 table maps."""
        return self.cluster_size // self.l2_entry * self.cluster_size


class _Fields(NamedTuple):
    magic: bytes
    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    # Version 2 ends here; the defaults are what it implies.
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = _V2.size


def bytes_needed(head: bytes) -> int:
    """Return how many bytes of the image :func:`parse` needs: its first cluster, where the extensions are."""
    if len(head) < _V2.size:
        return _V2.size
    bits = _Fields(*_V2.unpack_from(head)).cluster_bits
    return 1 << bits if bits in _CLUSTER_BITS else _V2.size


def parse(head: bytes, *, image: str) -> Header:
    """Read the header of a qcow2 image from its first :func:`bytes_needed` bytes, or all that it has.

    Raises:
        ImageRefused: the first thing found wrong; ``image`` names it.
    """
    for defect in _defects(head):
        raise ImageRefused(image=image, reason=defect)
    fields = _fields(head)
    entry = 16 if fields.incompatible & _EXTENDED_L2 else 8
    return Header(
        version=fields.version,
        virtual_size=fields.size,
        cluster_bits=fields.cluster_bits,
        l1_offset=fields.l1_offset,
        l1_entries=_l1_entries(fields),
        l2_entry=entry,
        refcount_table_offset=fields.refcount_offset,
        refcount_table_size=fields.refcount_clusters << fields.cluster_bits,
        compression=Compression(_compression(fields, head)),
    )


def _fields(head: bytes) -> _Fields:
    fields = _Fields(*_V2.unpack_from(head))
    return fields if fields.version == 2 else _Fields(*fields[:_V2_COUNT], *_V3.unpack_from(head, _V2.size))


def _l1_entries(fields: _Fields) -> int:
    entry = 16 if fields.incompatible & _EXTENDED_L2 else 8
    return -(-fields.size // ((1 << fields.cluster_bits) // entry << fields.cluster_bits))


def _compression(fields: _Fields, head: bytes) -> int:
    # Older headers end before this byte; what is there then belongs to the first extension.
    return head[_V2.size + _V3.size] if fields.header_length > _V2.size + _V3.size else Compression.ZLIB


def _defects(head: bytes) -> Iterator[str]:
    """Give everything wrong with the header, in an order in which each check may rely on those before it."""
    if not head.startswith(MAGIC):
        yield "it has no qcow2 header"
    version = int.from_bytes(head[4:8])
    if len(head) >= _V2.size and version not in (2, 3):
        yield f"its qcow2 version is {version}; 2 and 3 are supported"
    if len(head) < _V2.size + (_V3.size if version == 3 else 0):
        yield "it ends within the qcow2 header"
    fields = _fields(head)
    yield from _dangers(fields)
    yield from _misshapen(fields, head)
    yield from _impossible_tables(fields)
    yield from _bad_extensions(fields, head)


def _dangers(fields: _Fields) -> Iterator[str]:
    if fields.backing_offset:
        yield "it has a backing file; flatten it with qemu-img convert"
    if fields.crypt_method:
        yield "it is encrypted"
    if fields.incompatible & _DATA_FILE:
        yield "it keeps its data in an external data file"
    if fields.incompatible & _CORRUPT:
        yield "it is marked as corrupt; repair it with qemu-img check -r"
    if fields.incompatible & ~_KNOWN_FEATURES:
        yield f"it needs unknown features (incompatible bits {fields.incompatible & ~_KNOWN_FEATURES:#x})"


def _misshapen(fields: _Fields, head: bytes) -> Iterator[str]:
    if fields.cluster_bits not in _CLUSTER_BITS:
        yield f"its clusters have 2**{fields.cluster_bits} bytes; 2**9 to 2**21 are allowed"
    if fields.incompatible & _EXTENDED_L2 and fields.cluster_bits < _EXTENDED_L2_CLUSTER_BITS:
        yield "its clusters are too small for extended L2 entries"
    if fields.version == 3 and not (
        _V2.size + _V3.size <= fields.header_length <= 1 << fields.cluster_bits and fields.header_length % 8 == 0
    ):
        yield f"its header length is {fields.header_length}"
    if fields.refcount_order > _LARGEST_REFCOUNT_ORDER:
        yield f"its reference counts have 2**{fields.refcount_order} bits"
    if len(head) < min(fields.header_length, 1 << fields.cluster_bits):
        yield "it ends within the qcow2 header"
    compression = _compression(fields, head)
    if compression not in set(Compression):
        yield f"its compression type {compression} is unknown"
    if bool(fields.incompatible & _COMPRESSION) != (compression != Compression.ZLIB):
        yield f"its compression type {compression} contradicts its feature bits"


def _impossible_tables(fields: _Fields) -> Iterator[str]:
    cluster = 1 << fields.cluster_bits
    if not 0 < fields.size < 1 << 63:
        yield f"its disk has {fields.size} bytes"
    # QEMU counts whole sectors: it would drop the last bytes in silence.
    if fields.size % _SECTOR:
        yield f"its disk has {fields.size} bytes, which are no whole sectors"
    if fields.l1_size * L1_ENTRY > _L1_LIMIT:
        yield f"its L1 table has {fields.l1_size} entries, more than 32 MiB"
    if fields.l1_size < _l1_entries(fields):
        yield f"its L1 table has {fields.l1_size} entries where its disk needs {_l1_entries(fields)}"
    if fields.l1_offset % cluster or not fields.l1_offset:
        yield f"its L1 table is at byte {fields.l1_offset}"
    if not 0 < fields.refcount_clusters << fields.cluster_bits <= _REFCOUNT_TABLE_LIMIT:
        yield f"its refcount table has {fields.refcount_clusters} clusters"
    if fields.refcount_offset % cluster or not fields.refcount_offset:
        yield f"its refcount table is at byte {fields.refcount_offset}"
    if fields.snapshots > _SNAPSHOT_LIMIT or (fields.snapshots and fields.snapshots_offset % cluster):
        yield "its table of snapshots is impossible"


def _bad_extensions(fields: _Fields, head: bytes) -> Iterator[str]:
    cluster = 1 << fields.cluster_bits
    position = fields.header_length
    while position + _EXTENSION.size <= cluster:
        if len(head) < position + _EXTENSION.size:
            yield "it ends within its header extensions"
            return
        kind, length = _EXTENSION.unpack_from(head, position)
        if kind == 0:
            return
        position += _EXTENSION.size + align_up(length, 8)
        if position > cluster:
            yield f"its header extension {kind:#010x} is longer than its first cluster"
        if kind in _FORBIDDEN_EXTENSIONS:
            yield f"it has a header extension for {_FORBIDDEN_EXTENSIONS[kind]}"
