"""The header of a qcow2 image: what is read, and everything that is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2 import Compression
from libironic_disk.units import GIB, MIB, TIB
from tests.support.oracles import output
from tests.support.qcow2_images import CLUSTER, OPTIONS, SOUND, HandMade, created


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def parse(made: HandMade) -> qcow2.Header:
    return qcow2.parse(made.header(), image="test.qcow2")


def test_a_sound_header_is_read() -> None:
    header = parse(SOUND)
    assert header == qcow2.Header(
        version=3,
        virtual_size=MIB,
        cluster_bits=16,
        l1_offset=2 * CLUSTER,
        l1_entries=1,
        l2_entry=8,
        refcount_table_offset=CLUSTER,
        refcount_table_size=CLUSTER,
        compression=Compression.ZLIB,
    )
    assert header.l2_covers == 512 * MIB


@pytest.mark.parametrize("options", [*OPTIONS[:10], "compression_type=zstd"])
@pytest.mark.parametrize("size", [MIB, 3 * GIB + 512, 40 * GIB])
def test_headers_by_qemu_img_are_read_as_qemu_img_reads_them(tmp_path: Path, options: str, size: int) -> None:
    path = created(tmp_path / "i.qcow2", size, options)
    said = json.loads(output("qemu-img", "info", "-f", "qcow2", "--output", "json", str(path)))
    data = said["format-specific"]["data"]
    header = qcow2.parse(path.read_bytes()[: 2 * MIB], image="i.qcow2")
    assert header.virtual_size == said["virtual-size"]
    assert header.cluster_size == said["cluster-size"]
    assert header.version == {"0.10": 2, "1.1": 3}[data["compat"]]
    assert header.extended_l2 == data.get("extended-l2", False)
    assert header.compression.name.lower() == data.get("compression-type", "zlib")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SOUND.but(version=1), "version is 1"),
        (SOUND.but(version=4), "version is 4"),
        (SOUND.but(backing_offset=512), "backing file"),
        (SOUND.but(version=2, backing_offset=512), "backing file"),
        (SOUND.but(crypt_method=1), "encrypted"),
        (SOUND.but(crypt_method=2), "encrypted"),
        (SOUND.but(incompatible=1 << 1), "corrupt"),
        (SOUND.but(incompatible=1 << 2), "data file"),
        (SOUND.but(incompatible=1 << 5), "unknown features"),
        (SOUND.but(incompatible=1 << 63), "unknown features"),
        (SOUND.but(cluster_bits=8), "2**8 bytes"),
        (SOUND.but(cluster_bits=22), "2**22 bytes"),
        (SOUND.but(cluster_bits=0), "2**0 bytes"),
        (SOUND.but(cluster_bits=0xFFFFFFFF), "clusters have"),
        (SOUND.but(cluster_bits=13, incompatible=1 << 4, header_length=112), "too small for extended L2"),
        (SOUND.but(header_length=72), "header length is 72"),
        (SOUND.but(header_length=106), "header length is 106"),
        (SOUND.but(header_length=0xFFFFFFF8), "header length"),
        (SOUND.but(refcount_order=7), "reference counts"),
        (SOUND.but(incompatible=1 << 3), "contradicts"),
        (SOUND.but(incompatible=1 << 3, header_length=112), "contradicts"),
        (SOUND.but(compression=1, header_length=112), "contradicts"),
        (SOUND.but(incompatible=1 << 3, compression=2, header_length=112), "compression type 2"),
        (SOUND.but(size=0), "0 bytes"),
        (SOUND.but(size=1 << 63), "bytes"),
        (SOUND.but(size=1000), "whole sectors"),
        (SOUND.but(size=TIB), "its disk needs 2048"),
        (SOUND.but(l1_size=0), "L1 table has 0"),
        (SOUND.but(l1_size=0x7FFFFFFF), "more than 32 MiB"),
        (SOUND.but(l1_offset=0), "L1 table is at byte 0"),
        (SOUND.but(l1_offset=CLUSTER + 512), "L1 table is at byte"),
        (SOUND.but(refcount_clusters=0), "refcount table has 0"),
        (SOUND.but(refcount_clusters=129), "refcount table has 129"),
        (SOUND.but(refcount_offset=0), "refcount table is at byte 0"),
        (SOUND.but(refcount_offset=8), "refcount table is at byte 8"),
        (SOUND.but(snapshots=65537), "snapshots"),
        (SOUND.but(snapshots=1, snapshots_offset=7), "snapshots"),
        (SOUND.but(extensions=extension(0x44415441, b"/etc/passwd")), "external data file"),
        (SOUND.but(extensions=extension(0x12345678, b"x") + extension(0x44415441, b"y")), "external data file"),
        (SOUND.but(version=2, extensions=extension(0x44415441, b"/etc/passwd")), "external data file"),
        (SOUND.but(extensions=extension(0x0537BE77, bytes(16))), "encryption"),
        (SOUND.but(extensions=struct.pack(">II", 0x12345678, CLUSTER)), "longer than its first cluster"),
        (SOUND.but(extensions=struct.pack(">II", 0x12345678, 0xFFFFFFFF)), "longer than its first cluster"),
    ],
)
def test_what_is_unsafe_or_impossible_is_refused_in_words(made: HandMade, words: str) -> None:
    with pytest.raises(ImageRefused, match=r"test\.qcow2") as refused:
        parse(made)
    assert words in refused.value.reason


def test_what_a_reader_never_follows_is_left_alone() -> None:
    dirty = SOUND.but(incompatible=1, snapshots=3, snapshots_offset=9 * CLUSTER)
    unknown = dirty.but(extensions=extension(0x6803F857, bytes(48)) + extension(0xDEADBEEF, b"whatever"))
    assert parse(unknown) == parse(SOUND)


def test_version_2_has_no_feature_bits() -> None:
    # The bytes that hold them in version 3 belong to the first extension here: a backing format of five letters.
    assert parse(SOUND.but(version=2, extensions=extension(0xE2792ACA, b"qcow2"))).version == 2


@pytest.mark.parametrize("length", [4, 8, 71, 72, 103, 104, 107])
def test_a_file_that_ends_within_its_header_is_refused(length: int) -> None:
    with pytest.raises(ImageRefused, match="ends within"):
        qcow2.parse(SOUND.header()[:length], image="test.qcow2")


def test_the_first_cluster_is_all_that_is_needed() -> None:
    assert qcow2.bytes_needed(SOUND.header()[:512]) == CLUSTER
    assert qcow2.bytes_needed(SOUND.but(cluster_bits=63).header()) == 72
    assert qcow2.bytes_needed(b"") == 72
