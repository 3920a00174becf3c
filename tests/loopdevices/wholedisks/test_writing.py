"""A whole-disk image on a disk: each of its bytes, nothing of what was there before, and a result that says so."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from libironic_disk import deploy, images, partitioner, wholedisk
from libironic_disk.deploy import DeployPlan
from libironic_disk.events import Event, Phase, PhaseStarted
from libironic_disk.images import ImageFormat, ImageType, Proof
from libironic_disk.machine.images import http_mirrors, streaming
from libironic_disk.machine.images.withholding import Withheld
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB, MIB
from libironic_disk.wholedisk import writing
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.disks import LoopDisk
from tests.support.webserver import serving

pytestmark = pytest.mark.loopdevice

SIZE = 8 * MIB
LARGER = 13 * MIB
FORMS: dict[str, Callable[[Path], Path]] = {
    "raw": lambda raw: raw,
    "qcow2": wholedisks.as_qcow2,
    "qcow2-compressed": lambda raw: wholedisks.as_qcow2(raw, "-c"),
    "raw.gz": lambda raw: packed(raw, "gzip", "--keep", "--force"),
    "qcow2.zst": lambda raw: packed(wholedisks.as_qcow2(raw), "zstd", "--quiet", "--force"),
}
MakeImage = Callable[[int, str], Path]


@pytest.fixture(scope="module")
def image_of(tmp_path_factory: pytest.TempPathFactory) -> MakeImage:
    """Give a raw image for a sector size and a kind of table."""
    folder = tmp_path_factory.mktemp("images")

    @functools.cache
    def make(sector_size: int, label: str) -> Path:
        path = folder / f"{label}-{sector_size}.raw"
        return wholedisks.make_disk(path, SIZE, sector_size=sector_size, label=label, seed=sector_size)

    return make


def packed(path: Path, *program: str) -> Path:
    """Compress a file."""
    oracles.output(*program, str(path))
    return next(path.with_name(f"{path.name}{end}") for end in (".gz", ".zst") if program[0][0] == end[1])


def used(bench: Bench, size: int, sector_size: int) -> LoopDisk:
    """Return a disk on which other things are, wherever one looks."""
    disk = bench.disk(size, sector_size)
    wholedisks.fill(disk)
    wholedisks.litter_with_partitions(disk)
    return disk


def put(image: Path, disk: LoopDisk, *, verify: bool = False) -> DeployResult:
    """Deploy an image with nothing else said."""
    request = DeployRequest(device=disk.node, image=image, image_type=ImageType.WHOLE_DISK, verify=verify)
    return deploy.deploy(request)


def assert_told(result: DeployResult, raw: Path, sector_size: int) -> None:
    """Assert that a result says what sfdisk and blkid find, and that each node leads to its part of the image."""
    table = oracles.sfdisk(result.device)
    assert result.table == {"gpt": TableKind.GPT, "dos": TableKind.MBR}[table.label]
    assert result.disk_id == table.disk_id
    assert [(part.start, part.size) for part in result.partitions] == [
        (row.start * sector_size, row.size * sector_size) for row in table.rows
    ]
    for part in result.partitions:
        oracles.output("cmp", "--bytes", str(part.size), "--ignore-initial", f"0:{part.start}", part.node, str(raw))
        assert oracles.output("blockdev", "--getsize64", part.node).strip() == str(part.size)
        assert oracles.blkid(part.node)["PART_ENTRY_UUID"] == part.partuuid
        assert (part.role, part.filesystem) == (None, "")
    assert result.as_ironic() == {"disk identifier": table.disk_id}


@pytest.mark.parametrize(
    ("form", "label"), [("raw", "gpt"), ("raw", "dos"), ("qcow2-compressed", "gpt"), ("raw.gz", "dos")]
)
def test_each_byte_is_the_images_and_the_result_says_what_it_is(
    bench: Bench, image_of: MakeImage, sector_size: int, form: str, label: str
) -> None:
    raw = image_of(sector_size, label)
    disk = used(bench, LARGER, sector_size)
    result = put(FORMS[form](raw), disk)
    wholedisks.assert_has_image(disk, raw)
    assert_told(result, raw, sector_size)
    # That the backup GPT isn't at the end of this disk is no fault of the image's.
    assert (result.warnings, result.proof) == ((), Proof.LENGTH)


@pytest.mark.parametrize("form", ["qcow2", "qcow2-compressed", "qcow2.zst"])
def test_a_disk_of_the_images_size_is_the_image_to_its_last_byte(
    bench: Bench, image_of: MakeImage, sector_size: int, form: str
) -> None:
    raw = image_of(sector_size, "gpt")
    disk = used(bench, SIZE, sector_size)
    result = put(FORMS[form](raw), disk, verify=True)
    oracles.output("qemu-img", "compare", "-F", "raw", str(wholedisks.as_qcow2(raw)), disk.node)
    oracles.output("cmp", str(raw), disk.node)
    oracles.check_gpt(disk.node)
    assert result.warnings == ()


@pytest.mark.parametrize("word", [None, "unknown", "gpt", "raw"])
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_ironic_9_7_a_raw_image_is_written_whatever_it_is_called(
    bench: Bench, image_of: MakeImage, label: str, word: str | None
) -> None:
    raw = image_of(512, label)
    disk = bench.disk(LARGER, 512)
    # As from JSON.
    untyped = cast("Callable[..., DeployRequest]", DeployRequest)
    request = untyped(device=disk.node, image=raw, image_type="whole-disk", image_format=word)
    assert_told(deploy.deploy(request), raw, 512)
    wholedisks.assert_has_image(disk, raw)


def test_ironic_9_6_swap_and_odd_names_are_listed(bench: Bench, tmp_path: Path) -> None:
    raw = tmp_path / "image.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    script = 'label: gpt\nstart=2048, size=4096, name="a:b"\nstart=6144, size=4096, type=S'
    subprocess.run(["sfdisk", "--quiet", str(raw)], input=script, text=True, check=True)
    swap = tmp_path / "swap"
    swap.write_bytes(bytes(2 * MIB))
    oracles.output("mkswap", "--label", "swap:1", str(swap))
    oracles.output("dd", f"if={swap}", f"of={raw}", "bs=1M", "seek=3", "conv=notrunc", "status=none")
    result = put(raw, bench.disk(SIZE, 512))
    listed = [(part.name, part.filesystem, part.label, part.size) for part in result.partitions]
    assert listed == [("a:b", "", "", 2 * MIB), ("", "swap", "swap:1", 2 * MIB)]


def findings(disk: LoopDisk, places: Sequence[ByteRange]) -> list[str]:
    """Return what wipefs, sfdisk and blkid say of a disk, and blkid of places on it, without the disk's name."""
    words = [
        oracles.output("wipefs", "--noheadings", "--output", "TYPE,OFFSET,UUID", disk.node),
        oracles.output("sfdisk", "--json", disk.node, ok=(0, 1)),
        str(oracles.blkid(disk.node)),
    ]
    for place in places:
        where = ("--offset", str(place.start), "--size", str(place.size))
        words.append(oracles.output("blkid", "--probe", *where, disk.node, ok=(0, 2)))
    return [word.replace(disk.node, "DISK") for word in words]


@pytest.mark.parametrize("litter", [wholedisks.litter_with_partitions, wholedisks.litter_with_volumes])
def test_ironic_9_3_nothing_that_was_there_is_recognised_any_more(
    bench: Bench, image_of: MakeImage, sector_size: int, litter: Callable[[LoopDisk], list[ByteRange]]
) -> None:
    raw = image_of(sector_size, "gpt")
    disk, blank = bench.disk(LARGER, sector_size), bench.disk(LARGER, sector_size)
    wholedisks.fill(disk)
    places = litter(disk)
    if places:
        assert [blkid_type(disk, place) for place in places] == ["ext4", "LVM2_member", "linux_raid_member"]
    else:
        kinds = oracles.output("wipefs", "--noheadings", "--output", "TYPE", disk.node).split()
        assert sorted(kinds) == ["LVM2_member", "btrfs", "ext4", "linux_raid_member"]
    put(raw, disk)
    oracles.output("dd", f"if={raw}", f"of={blank.node}", "bs=1M", "conv=fsync", "status=none")
    oracles.output("sfdisk", "--relocate", "gpt-bak-std", "--no-reread", "--no-tell-kernel", blank.node)
    assert findings(disk, places) == findings(blank, places)
    backup = 16 * KIB + sector_size
    assert not any(disk.file.read_bytes()[-MIB:-backup])


def test_a_copy_of_a_header_deep_in_the_disk_is_found_and_erased(
    bench: Bench, tmp_path: Path, sector_size: int
) -> None:
    image = tmp_path / "small.raw"
    image.write_bytes(bytes(512) + b"EFI PART" + b"an image" * 8192)
    disk = bench.disk(LARGER, sector_size)
    wholedisks.fill(disk)
    wholedisks.litter_with_a_second_header(disk, 4 * MIB)
    with Path(disk.node).open("r+b") as node:
        first = node.read(4 * KIB)
        node.seek(0)
        node.write(bytes(4 * KIB))
        node.flush()
        assert oracles.blkid(disk.node)["TYPE"] == "crypto_LUKS"
        node.seek(0)
        node.write(first)
    put(image, disk)
    assert oracles.blkid(disk.node) == {}
    assert oracles.output("wipefs", disk.node) == ""


def blkid_type(disk: LoopDisk, place: ByteRange) -> str:
    where = ("--offset", str(place.start), "--size", str(place.size))
    return oracles.output("blkid", "--probe", "--output", "value", "--match-tag", "TYPE", *where, disk.node).strip()


def bootable(size: int) -> bytes:
    """Return noise behind a boot sector, whose table is empty."""
    noise = random.Random(size).randbytes(size)
    return noise[:440] + bytes(70) + b"\x55\xaa" + noise[512:]


@pytest.mark.parametrize(
    "size",
    [512, 100 * KIB, MIB, MIB + 4 * KIB, 6 * MIB - 512, 7 * MIB - 513, 7 * MIB, 7 * MIB + 777, 8 * MIB - 1, 8 * MIB],
)
def test_an_image_may_end_anywhere(bench: Bench, tmp_path: Path, size: int) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(bootable(size))
    disk = bench.disk(8 * MIB, 512)
    wholedisks.fill(disk)
    result = put(image, disk, verify=True)
    assert (result.disk_id, result.partitions, result.as_ironic()) == ("", (), {})
    found = disk.file.read_bytes()
    assert found[:size] == image.read_bytes()
    between = found[max(size, MIB) : 7 * MIB]
    assert between == b"\xaa" * len(between)
    last = found[max(size, 7 * MIB) :]
    assert last == bytes(len(last))


@pytest.mark.parametrize("size", [512, 4 * KIB, MIB, MIB + 512, 2 * MIB, 2 * MIB + 512])
def test_a_disk_may_be_all_ends(bench: Bench, tmp_path: Path, size: int) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(bootable(size))
    disk = bench.disk(size, 512)
    put(image, disk, verify=True)
    oracles.output("cmp", str(image), disk.node)


def test_logical_partitions_appear_as_sfdisk_lists_them(bench: Bench, sector_size: int, tmp_path: Path) -> None:
    made = bench.disk(12 * MIB, sector_size)
    rows = [(1, 1, "83"), (2, 9, "5"), (3, 2, "83"), (6, 1, "82")]
    unit = MIB // sector_size
    script = ["label: dos", *(f"start={at * unit}, size={size * unit}, type={kind}" for at, size, kind in rows)]
    argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", made.node]
    subprocess.run(argv, input="\n".join(script), text=True, check=True)
    raw = tmp_path / "logical.raw"
    oracles.output("dd", f"if={made.node}", f"of={raw}", "bs=1M", "status=none")
    disk = used(bench, LARGER, sector_size)
    result = put(raw, disk)
    assert [(part.number, part.start, part.size) for part in result.partitions] == [
        (1, MIB, MIB),
        (5, 3 * MIB, 2 * MIB),
        (6, 6 * MIB, MIB),
    ]
    for part in result.partitions:
        assert oracles.blkid(part.node)["PART_ENTRY_UUID"] == part.partuuid
        assert oracles.output("blockdev", "--getsize64", part.node).strip() == str(part.size)


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_an_image_that_was_cut_on_purpose_is_written_when_asked_for(
    bench: Bench, image_of: MakeImage, tmp_path: Path, label: str
) -> None:
    cut = tmp_path / "cut.raw"
    cut.write_bytes(image_of(512, label).read_bytes()[: 5 * MIB])
    disk = used(bench, LARGER, 512)
    request = DeployRequest(device=disk.node, image=cut, image_type=ImageType.WHOLE_DISK, image_may_be_cut=True)
    result = deploy.deploy(request)
    wholedisks.assert_has_image(disk, cut)
    assert result.warnings[0] == "the image was cut: it ends 1792 KiB before its partition 2 does"


def test_a_boot_sector_with_a_file_system_is_a_disk(bench: Bench, sector_size: int, tmp_path: Path) -> None:
    image = tmp_path / "fat.raw"
    oracles.output("mkfs.vfat", "-S", str(sector_size), "-C", str(image), str(SIZE // KIB))
    disk = used(bench, SIZE, sector_size)
    result = put(image, disk)
    assert (result.table, result.disk_id, result.partitions, result.as_ironic()) == (None, "", (), {})
    oracles.check_filesystem("vfat", disk.node)
    assert oracles.blkid(disk.node)["TYPE"] == "vfat"


def test_an_iso_image_with_a_table_is_written_where_it_is_declared_raw(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(700 * KIB))
    iso = tmp_path / "hybrid.iso"
    how = ("-as", "mkisofs", "-quiet", "-part_like_isohybrid", "-partition_offset", "16")
    oracles.output("xorriso", *how, "-o", str(iso), str(tmp_path / "tree"))
    disk = used(bench, LARGER, 512)
    request = DeployRequest(
        device=disk.node, image=iso, image_type=ImageType.WHOLE_DISK, image_format=ImageFormat.RAW, verify=True
    )
    result = deploy.deploy(request)
    oracles.output("cmp", "--bytes", str(iso.stat().st_size), str(iso), disk.node)
    assert oracles.blkid(disk.node)["TYPE"] == "iso9660"
    # The table of such an image gives the disk no identifier.
    assert (result.table, result.disk_id, result.as_ironic()) == (TableKind.MBR, "", {})
    (row,), (part,) = oracles.sfdisk(disk.node).rows, result.partitions
    assert (part.start, part.size) == (row.start * 512, row.size * 512)
    oracles.output("cmp", "--bytes", str(part.size), "--ignore-initial", f"0:{part.start}", part.node, str(iso))


@pytest.mark.parametrize("form", ["raw", "qcow2-compressed"])
def test_an_image_comes_from_a_server_that_fails_half_way(
    bench: Bench, image_of: MakeImage, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 0.01)
    raw = image_of(512, "gpt")
    body = FORMS[form](raw).read_bytes()
    disk = used(bench, LARGER, 512)
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=len(body) // 2), Fault(kind=Kind.UNAVAILABLE)]
    with serving() as server:
        served = ImageServer(server=server, body=body, faults=faults)
        request = DeployRequest(
            device=disk.node,
            image=served.url,
            image_type=ImageType.WHOLE_DISK,
            image_checksum=f"sha256:{hashlib.sha256(body).hexdigest()}",
        )
        result = deploy.deploy(request)
    assert len(served.ranges) >= 3
    wholedisks.assert_has_image(disk, raw)
    assert_told(result, raw, 512)


@pytest.mark.parametrize("size", [LARGER, SIZE])
def test_clusters_that_wait_for_their_table_on_the_disk_are_gone_from_there(
    bench: Bench, image_of: MakeImage, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    raw = image_of(512, "gpt")
    disk = used(bench, size, 512)
    monkeypatch.setattr(writing, "stream", functools.partial(streaming.stream, stash_budget=64 * KIB))
    put_aside = []
    scratch = Withheld.scratch

    def watched(self: Withheld, offset: int, data: memoryview) -> None:
        scratch(self, offset, data)
        put_aside.append(ByteRange(offset, offset + len(data)))

    monkeypatch.setattr(Withheld, "scratch", watched)
    with wholedisks.with_tables_last(wholedisks.as_qcow2(raw)).open("rb") as stream:
        request = DeployRequest(device=disk.node, image=stream, image_type=ImageType.WHOLE_DISK, verify=True)
        result = deploy.deploy(request)
    assert sum(place.size for place in put_aside) > MIB
    wholedisks.assert_has_image(disk, raw)
    assert_told(result, raw, 512)
    found = disk.file.read_bytes()
    behind = [place for place in put_aside if place.start >= SIZE]
    assert all(found[place.start : place.end] == bytes(place.size) for place in behind)
    # Where there is no room behind the image, they waited where the image itself came later.
    assert len(behind) == (len(put_aside) if size == LARGER else 0)


def test_a_plain_file_becomes_the_disk(bench: Bench, image_of: MakeImage, sector_size: int) -> None:
    raw = image_of(sector_size, "gpt")
    file = bench.blank_file(SIZE)
    request = DeployRequest(
        device=str(file), file_sector_size=sector_size, image=raw, image_type=ImageType.WHOLE_DISK, verify=True
    )
    result = deploy.deploy(request)
    oracles.output("cmp", str(raw), str(file))
    assert [(part.number, part.node) for part in result.partitions] == [(1, ""), (2, "")]


def test_planning_touches_nothing_and_says_what_will_be_lost(bench: Bench, image_of: MakeImage) -> None:
    disk = used(bench, LARGER, 512)
    before = disk.digest()
    raw = image_of(512, "gpt")
    request = DeployRequest(device=disk.node, image=raw, image_type=ImageType.WHOLE_DISK)
    wanted = deploy.plan(request)
    assert isinstance(wanted, DeployPlan)
    assert str(wanted).splitlines() == [
        f"{disk.node}: 13 MiB in sectors of 512 bytes",
        f"gets the raw whole-disk image {raw}, 8 MiB",
        f"destroys the gpt table {oracles.sfdisk(disk.node).disk_id} with 3 partitions",
        "destroys ext4 on partition 1",
        "destroys LVM2_member on partition 2",
        "destroys linux_raid_member labelled 'host:0' on partition 3",
    ]
    assert disk.digest() == before


def test_the_first_sector_comes_when_all_else_is_there(bench: Bench, image_of: MakeImage, sector_size: int) -> None:
    disk = used(bench, LARGER, sector_size)
    seen: list[tuple[Phase, set[str]]] = []

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            seen.append((event.phase, wholedisks.opinions(Path(disk.node), sector_size=sector_size)))

    image = images.inspect(image_of(sector_size, "gpt"))
    written = wholedisk.apply(wholedisk.plan(image, partitioner.observe(disk.node)), sink=sink, verify=True)
    everybody = {"sfdisk", "blkid", "read_table"}
    assert seen == [(Phase.CHECK, everybody), (Phase.WIPE, everybody), (Phase.IMAGE, set()), (Phase.COMMIT, set())]
    assert wholedisks.opinions(Path(disk.node), sector_size=sector_size) == everybody
    assert (written.bytes_read, written.bytes_written) == (SIZE, SIZE)


def test_one_image_after_the_other(bench: Bench, image_of: MakeImage) -> None:
    disk = used(bench, LARGER, 512)
    for label in ("gpt", "dos", "gpt"):
        raw = image_of(512, label)
        assert_told(put(raw, disk), raw, 512)
        wholedisks.assert_has_image(disk, raw)
