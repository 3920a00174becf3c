"""A whole-disk image and an end at any moment, of the process or of the power: all of the disk is there, or no disk.

What a process wrote is known from strace, and the disk is made again as it was at each moment. When the power goes, of
what wasn't flushed any sectors may be on the disk and others not. A sector is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest

from libironic_disk.events import Phase
from libironic_disk.machine.disks import sysfs
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks, write_whole_disk
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.disks import LoopDisk
from tests.support.webserver import serving
from tests.support.write_log import Change, WriteLog, record

pytestmark = pytest.mark.loopdevice

SIZE = 4 * MIB
LARGER = 7 * MIB
PROGRAM = (sys.executable, "-m", "tests.support.write_whole_disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was done to a disk, and what the disk was before."""

    disk: LoopDisk
    before: bytes
    image: bytes
    log: WriteLog

    def look_at(self, state: bytearray) -> set[str]:
        """Make the disk so, and return who finds a table on it."""
        self.disk.file.write_bytes(state)
        return wholedisks.opinions(Path(self.disk.node), sector_size=self.disk.sector_size)

    def ends_are_new(self, state: bytearray) -> bool:
        """Whether a sector of the first or last MiB is neither what it was nor blank."""
        size = self.disk.sector_size
        ends = (*range(0, MIB, size), *range(len(state) - MIB, len(state), size))
        return any(state[at : at + size] not in (bytes(size), self.before[at : at + size]) for at in ends)

    def moments(self) -> Iterator[tuple[int, bytearray]]:
        """Yield the disk, the same each time, after each change, with the number of changes that are left."""
        state = bytearray(self.before)
        for left, change in reversed([*enumerate(reversed(self.log.changes))]):
            change.apply(state)
            yield left, state

    def cuts(self, seed: int) -> Iterator[bytearray]:
        """Yield the disk as it may be when the power goes between two flushes."""
        chance = random.Random(seed)
        state = bytearray(self.before)
        for group in self.log.groups:
            cut = bytearray(state)
            unordered = chance.sample(group, len(group))
            for change in unordered:
                torn(change, cut, chance, self.disk.sector_size)
            if group:
                yield cut
            for change in group:
                change.apply(state)


def torn(change: Change, disk: bytearray, chance: random.Random, sector_size: int) -> None:
    """Write any of the sectors of a change: none, all, those up to one, or here and there one."""
    sectors = range(-(-change.length // sector_size))
    some: Sequence[int] = chance.choice(
        [
            (),
            sectors,
            sectors[: chance.randrange(len(sectors) + 1)],
            [sector for sector in sectors if chance.random() < 0.5],
        ]
    )
    change.apply(disk, some, sector_size)


def old_disk(bench: Bench, size: int, sector_size: int = 512) -> LoopDisk:
    """Return a disk with another system on it, whose backup table is at its very end."""
    file = wholedisks.make_disk(bench.blank_file(size), size, sector_size=sector_size, seed=11)
    return bench.attach(file, sector_size)


def scene(bench: Bench, disk: LoopDisk, image: bytes, *arguments: str, status: int = 0) -> Scene:
    """Let the program write an image onto a disk, under strace; take a disk of its own to look at what it did."""
    before = disk.file.read_bytes()
    written = record([*PROGRAM, *arguments, disk.node], disk.node, bench.blank_file(0), status=status)
    found = disk.file.read_bytes()
    if not status:
        # But for what a GPT has to say of a larger disk, and of a partition more.
        assert found[64 * KIB : len(image) - 32 * KIB] == image[64 * KIB : -32 * KIB]
        image = found[: len(image)]
    other = bench.disk(len(before), disk.sector_size)
    made = Scene(disk=other, before=before, image=image, log=written)
    # What was seen is all that happened.
    *_, (_, replayed) = made.moments()
    assert replayed == found
    return made


def assert_nobody_before_the_last(scene: Scene, seed: int) -> None:
    """Assert that nobody finds a table as long as a change is missing, whichever others are."""
    sector_size = scene.disk.sector_size
    (last,) = scene.log.groups[-2]
    assert (last.offset, last.length, scene.log.groups[-1]) == (0, sector_size, ())
    *_, (_, end) = scene.moments()
    between = end[MIB:-MIB]
    assert end[: len(scene.image)] == scene.image
    assert scene.look_at(bytearray(scene.before)) == wholedisks.EVERYBODY
    for left, state in scene.moments():
        assert scene.look_at(state) == (set() if left else wholedisks.EVERYBODY), f"{left} changes are missing"
        assert not scene.ends_are_new(state) or state[MIB:-MIB] == between
    before_the_first_flush, *cuts, behind_the_last_but_one = scene.cuts(seed)
    assert before_the_first_flush[sector_size:] == scene.before[sector_size:]
    for number, cut in enumerate(cuts, 2):
        assert scene.look_at(cut) == set(), f"the power went before flush {number}, seed {seed}"
        assert not scene.ends_are_new(cut) or cut[MIB:-MIB] == between
    for cut in (before_the_first_flush, behind_the_last_but_one):
        assert scene.look_at(cut) in (set(), wholedisks.EVERYBODY)


@pytest.mark.parametrize(("sector", "label", "room"), [(512, "gpt", LARGER), (4096, "gpt", SIZE), (512, "dos", LARGER)])
def test_a_raw_image_is_there_with_its_last_write(
    bench: Bench, tmp_path: Path, sector: int, label: str, room: int
) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, sector_size=sector, label=label, seed=12)
    disk = old_disk(bench, room, sector)
    assert_nobody_before_the_last(scene(bench, disk, raw.read_bytes(), str(raw)), seed=13)


@pytest.mark.parametrize(("sector", "label"), [(512, "gpt"), (4096, "gpt"), (512, "dos")])
def test_a_disk_with_a_config_drive_is_there_with_its_last_write(
    bench: Bench, tmp_path: Path, sector: int, label: str
) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, sector_size=sector, label=label, seed=12)
    done = scene(bench, old_disk(bench, LARGER, sector), raw.read_bytes(), "--drive", str(raw))
    assert_nobody_before_the_last(done, seed=15)


def test_a_packed_image_of_a_server_is_there_with_its_last_write(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, seed=14)
    body = wholedisks.as_qcow2(raw, "-c").read_bytes()
    disk = old_disk(bench, LARGER)
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=len(body) // 2)]
    with serving() as server:
        served = ImageServer(server=server, body=body, faults=faults)
        checksum = f"--checksum=sha256:{hashlib.sha256(body).hexdigest()}"
        done = scene(bench, disk, raw.read_bytes(), served.url, checksum)
    assert len(served.ranges) >= 3
    assert_nobody_before_the_last(done, seed=14)


def test_clusters_that_wait_on_the_disk_are_no_disk(bench: Bench, tmp_path: Path) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, seed=15)
    late = wholedisks.with_tables_last(wholedisks.as_qcow2(raw))
    disk = old_disk(bench, 9 * MIB)
    how = ("--as-stream", f"--stash={64 * KIB}", str(late))
    done = scene(bench, disk, raw.read_bytes(), *how)
    # The first sector of the image, table and all, was among them.
    assert any(raw.read_bytes()[:512] in (change.data or b"") for change in done.log.changes[:-1])
    assert_nobody_before_the_last(done, seed=14)


def test_clusters_that_wait_where_the_image_will_be_are_no_disk(bench: Bench, tmp_path: Path) -> None:
    size = 8 * MIB
    raw = wholedisks.make_disk(tmp_path / "image.raw", size, seed=15)
    late = wholedisks.with_tables_last(wholedisks.as_qcow2(raw))
    done = scene(bench, old_disk(bench, size), raw.read_bytes(), "--as-stream", f"--stash={64 * KIB}", str(late))
    early = [change for change in done.log.changes[:-1] if raw.read_bytes()[:512] in (change.data or b"")]
    assert early
    assert all(2 * MIB <= change.offset < size - 2 * MIB for change in early)
    assert_nobody_before_the_last(done, seed=14)


def test_an_image_with_another_checksum_is_no_disk_at_any_moment(bench: Bench, tmp_path: Path) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, seed=16)
    disk = old_disk(bench, LARGER)
    checksum = f"--checksum=sha256:{hashlib.sha256(b'another').hexdigest()}"
    done = scene(bench, disk, raw.read_bytes(), str(raw), checksum, status=1)
    for left, state in done.moments():
        assert done.look_at(state) == set(), f"{left} changes are missing"
    for cut in [*done.cuts(3)][1:]:
        assert done.look_at(cut) == set()


def make_ext4(path: Path, seed: int) -> Path:
    """Make a file system that has the whole disk, with files in its first MiB as well."""
    tree = path.with_suffix(".tree")
    tree.mkdir()
    for number in range(12):
        (tree / f"file{number}").write_bytes(random.Random(seed + number).randbytes(90 * KIB))
    oracles.output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tree), str(path), str(SIZE // KIB))
    # As extlinux would have it: without a boot sector it would be no image of a disk.
    with path.open("r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


def make_iso(path: Path, seed: int) -> Path:
    """Make an ISO image, which UEFI starts without a look at its first sector."""
    tree = path.with_suffix(".tree")
    tree.mkdir()
    for number in range(12):
        (tree / f"file{number}").write_bytes(random.Random(seed + number).randbytes(90 * KIB))
    oracles.output("xorriso", "-as", "mkisofs", "-quiet", "-o", str(path), str(tree))
    return path


def ext4_is_whole(disk: Path, image: bytes) -> bool:
    """Whether its own checker is content."""
    return subprocess.run(["e2fsck", "-f", "-n", str(disk)], capture_output=True, check=False).returncode == 0


def iso_is_whole(disk: Path, image: bytes) -> bool:
    """Whether all is there but what comes before, which is no part of it (ECMA-119, section 6.2.1)."""
    return disk.read_bytes()[32 * KIB : len(image)] == image[32 * KIB :]


@pytest.mark.parametrize(
    ("kind", "make", "is_whole"), [("ext4", make_ext4, ext4_is_whole), ("iso9660", make_iso, iso_is_whole)]
)
def test_what_is_recognised_without_the_first_sector_is_whole_by_then(
    bench: Bench,
    tmp_path: Path,
    kind: str,
    make: Callable[[Path, int], Path],
    is_whole: Callable[[Path, bytes], bool],
) -> None:
    new, old = make(tmp_path / "new", 17), make(tmp_path / "old", 18)
    file = bench.blank_file(SIZE)
    with file.open("r+b") as place:
        place.write(old.read_bytes())
    done = scene(bench, bench.attach(file, 512), new.read_bytes(), "--declared=raw", str(new))
    recognised = []
    for seed in range(3):
        for cut in done.cuts(seed):
            done.disk.file.write_bytes(cut)
            recognised.append(oracles.blkid(done.disk.node).get("TYPE"))
            if recognised[-1] is not None:
                assert recognised[-1] == kind
                assert any(is_whole(done.disk.file, image.read_bytes()) for image in (old, new))
    # Those of the old one before, those of the new one behind.
    assert recognised.count(kind) >= 6
    assert recognised.count(None) >= 6


def assert_no_disk(disk: LoopDisk) -> None:
    """Assert that nobody finds a table, that the kernel knows no partitions, and that nothing is locked."""
    assert wholedisks.opinions(Path(disk.node), sector_size=disk.sector_size) == set()
    assert oracles.blkid(disk.node) == {}
    assert sysfs.partitions(sysfs.whole_disk(disk.node)) == ()
    oracles.output("flock", "--timeout", "10", disk.node, "true")


def assert_next_succeeds(disk: LoopDisk, image: Path) -> int:
    """Write an image, to the end this time, and return how many writes and flushes that were."""
    *_, last = oracles.output(*PROGRAM, str(image), disk.node).splitlines()
    wholedisks.assert_has_image(disk, image)
    assert wholedisks.opinions(Path(disk.node), sector_size=disk.sector_size) == wholedisks.EVERYBODY
    return int(last.removeprefix("writes "))


@pytest.mark.parametrize("phase", [Phase.CHECK, Phase.WIPE, Phase.IMAGE, Phase.COMMIT])
def test_a_process_that_is_killed_in_a_phase_leaves_the_old_disk_or_none(
    bench: Bench, tmp_path: Path, phase: Phase
) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, seed=19)
    disk = old_disk(bench, LARGER)
    before = disk.digest()
    with subprocess.Popen(
        [*PROGRAM, "--step", str(raw), disk.node], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line == f"phase {phase}\n":
                process.kill()
                break
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == -signal.SIGKILL
    if phase in (Phase.CHECK, Phase.WIPE):
        assert disk.digest() == before
    else:
        assert_no_disk(disk)
    assert_next_succeeds(disk, raw)


def test_a_process_that_is_killed_at_any_write_leaves_no_disk_or_all_of_it(bench: Bench, tmp_path: Path) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", SIZE, sector_size=4096, seed=20)
    disk = old_disk(bench, LARGER, 4096)
    count = assert_next_succeeds(disk, raw)
    chance = random.Random(21)
    for moment in [count, *(chance.randrange(2, count) for _ in range(16))]:
        # Forked, as starting Python would take most of the time.
        process = get_context("fork").Process(
            target=write_whole_disk.main, args=([f"--die-at={moment}", str(raw), disk.node],)
        )
        process.start()
        process.join()
        if process.exitcode == 0 or wholedisks.opinions(Path(disk.node), sector_size=4096):
            # How often is written depends on what was there before.
            wholedisks.assert_has_image(disk, raw)
            assert wholedisks.opinions(Path(disk.node), sector_size=4096) == wholedisks.EVERYBODY
        else:
            assert process.exitcode == -signal.SIGKILL
            assert_no_disk(disk)
    assert_next_succeeds(disk, raw)
