"""qcow2 images: by qemu-img with every option, and byte by byte where qemu-img would refuse to make one."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from libironic_disk.units import KIB, MIB
from tests.support.oracles import output

CLUSTER = 64 * KIB
COPIED = 1 << 63
COMPRESSED = 1 << 62

OPTIONS = (
    "compat=0.10",
    "compat=1.1",
    "compat=1.1,lazy_refcounts=on",
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=2M",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "refcount_bits=1",
    "refcount_bits=64",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full",
)
COMPRESSED_OPTIONS = (
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=2M",
    "extended_l2=on",
    "compression_type=zstd",
    "compression_type=zstd,cluster_size=4k",
    "compression_type=zstd,extended_l2=on",
)


def raw_image(path: Path, size: int = 24 * MIB, seed: int = 1) -> Path:
    """Make a sparse raw image: runs of text, of noise and of zeros, at odd places, up to its very end."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(24):
            length = chance.randrange(1, 300_000)
            file.seek(chance.randrange(4 * KIB, size - length))
            file.write(chance.randbytes(length) if number % 3 else b"some text " * (length // 10))
        file.seek(-777, 2)
        file.write(chance.randbytes(777))
    return path


def converted(raw: Path, path: Path, options: str = "", *, compress: bool = False) -> Path:
    """Make a qcow2 image of a raw one by qemu-img."""
    flags = [*(["-c"] if compress else []), *(["-o", options] if options else [])]
    output("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *flags, str(raw), str(path))
    return path


def created(path: Path, size: int, options: str = "", *commands: str) -> Path:
    """Make an empty qcow2 image by qemu-img, then run commands of qemu-io on it."""
    output("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), str(path), str(size))
    if commands:
        output("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), str(path))
    return path


def assert_identical(image: Path, target: Path | str) -> None:
    """Assert that qemu-img sees the same bytes on both; a longer target must go on in zeros."""
    output("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class HandMade:
    """The fields of a header, by default those of a sound image whose disk of 1 MiB has a single L2 table.

    Cluster 0 is the header, 1 the refcount table, 2 the L1 table, 3 the L2 table, 4 to 7 hold data.
    """

    version: int = 3
    backing_offset: int = 0
    backing_length: int = 0
    cluster_bits: int = 16
    size: int = MIB
    crypt_method: int = 0
    l1_size: int = 1
    l1_offset: int = 2 * CLUSTER
    refcount_offset: int = CLUSTER
    refcount_clusters: int = 1
    snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    refcount_order: int = 4
    header_length: int = 104
    compression: int = 0
    extensions: bytes = b""
    l1: tuple[int, ...] = (COPIED | 3 * CLUSTER,)
    l2: Mapping[int, int] = field(default_factory=dict)
    """The words of the L2 table by their index; with extended L2 entries, every second one is a bitmap."""

    def header(self) -> bytes:
        fields = struct.pack(
            ">4sIQIIQIIQQIIQ",
            b"QFI\xfb",
            self.version,
            self.backing_offset,
            self.backing_length,
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_size,
            self.l1_offset,
            self.refcount_offset,
            self.refcount_clusters,
            self.snapshots,
            self.snapshots_offset,
        )
        if self.version != 2:
            fields += struct.pack(">QQQII", self.incompatible, 0, 0, self.refcount_order, self.header_length)
            fields = fields + bytes([self.compression]) * (self.header_length > len(fields))
            fields = fields.ljust(min(self.header_length, CLUSTER), b"\0")
        return (fields + self.extensions).ljust(CLUSTER, b"\0")[:CLUSTER]

    def image(self, *, clusters: int = 8) -> bytes:
        """Return the whole file, its data clusters full of the letter d."""
        words = [0] * (CLUSTER // 8)
        for index, word in self.l2.items():
            words[index] = word
        file = bytearray(b"d" * (clusters * CLUSTER))
        file[:CLUSTER] = self.header()
        file[CLUSTER : 2 * CLUSTER] = bytes(CLUSTER)
        file[2 * CLUSTER : 3 * CLUSTER] = struct.pack(f">{len(self.l1)}Q", *self.l1).ljust(CLUSTER, b"\0")
        file[3 * CLUSTER : 4 * CLUSTER] = struct.pack(f">{len(words)}Q", *words)
        return bytes(file)

    def but(self, **fields: int | bytes | tuple[int, ...] | Mapping[int, int]) -> HandMade:
        """Return the same with other fields."""
        return replace(self, **fields)  # type: ignore[arg-type]


SOUND = HandMade()
EXTENDED_L2 = HandMade(incompatible=1 << 4, header_length=112)
