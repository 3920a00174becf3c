"""The rounds: each image is written by us and by each rival in turns, to a disk that is blank each time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.disk import IN_MEMORY, backing_file, blank, loop_disk
from benchmarks.images.building import Images, built
from benchmarks.images.commands import command, seconds
from benchmarks.images.job import Job
from benchmarks.images.serving import served
from benchmarks.images.works import Image, Rival, Work
from benchmarks.peers import OWN_PROCESSES, PEER, environment
from benchmarks.rounds import Round, Runner, started
from libironic_disk.units import GIB, KIB

_SPARE: Final = GIB
_TURNS: Final = 5

# A mount namespace in which nothing can be written but devices and what is no file: a temporary file would be an error.
# /proc stays, because a process resets its peak memory there.
_NO_FILES: Final = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    "findmnt --list --noheadings --output TARGET --options rw --types noproc,nosysfs,nocgroup,nocgroup2 |"
    ' while IFS= read -r target; do mount -o remount,bind,ro "$target" || exit; done && exec "$@"',
    "sh",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the rounds of one work took: ours, and each rival's seconds."""

    work: Work
    ours: tuple[Round, ...]
    rivals: Mapping[Rival, tuple[float, ...]]


def measure(works: Sequence[Work], rounds: int, size: int) -> Iterator[Measured]:
    """Do the rounds of each work, after one of each side that isn't counted, whose result is compared.

    Args:
        works: what to measure.
        rounds: how many of each side.
        size: bytes of the disk in most of the images.

    Raises:
        SystemExit: no room, a side failed, or its disk isn't what the image says.
    """
    python = environment(PEER)
    images = built(size)
    _check_memory(images, size)
    with _sides(images, python) as sides:
        for work in works:
            print(f"{work.name} ...", flush=True)
            yield sides.measured(work, rounds)


@contextmanager
def _sides(images: Images, python: Path) -> Iterator[_Sides]:
    with ExitStack() as held:
        memory = held.enter_context(tempfile.TemporaryDirectory(prefix="libironic_disk-bench-", dir=IN_MEMORY))
        logs = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="libironic_disk-bench-")))
        url = held.enter_context(served(images.directory))
        sizes = set(images.virtual_sizes.values())
        disks = {size: held.enter_context(loop_disk(size)) for size in sizes}
        ours = (*_NO_FILES, sys.executable, "-m", "benchmarks.images.ours")
        theirs = ("env", f"TMPDIR={memory}", *OWN_PROCESSES, str(python), "-m", "benchmarks.images.theirs")
        yield _Sides(
            images=images,
            url=url,
            disks=disks,
            log=logs / "command",
            ours=held.enter_context(started(ours, logs / "ours")),
            agent=held.enter_context(started(theirs, logs / "theirs")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """All that the rounds need; ``disks`` are devices by their size."""

    images: Images
    url: str
    disks: Mapping[int, str]
    log: Path
    ours: Runner
    agent: Runner

    def measured(self, work: Work, rounds: int) -> Measured:
        ours: list[Round] = []
        rivals: dict[Rival, list[float]] = {bound.rival: [] for bound in work.bounds}
        for number in range(rounds + 1):
            with self._blank_disk(work.image, "libironic_disk", compared=number == 0):
                took = self.ours.round(self._job(work, work.image))
            if number > 0:
                ours.append(took)
            for rival, samples in rivals.items():
                image = Image.FEW_FILES if rival is Rival.FEW_FILES else work.image
                sample = self._turn(rival, work, image, compared=number == 0)
                if number > 0:
                    samples.append(sample)
        return Measured(
            work=work, ours=tuple(ours), rivals={rival: tuple(samples) for rival, samples in rivals.items()}
        )

    def _turn(self, rival: Rival, work: Work, image: Image, *, compared: bool) -> float:
        """Return the seconds that a rival took the first time that it didn't hang."""
        for _ in range(_TURNS):
            try:
                with self._blank_disk(image, rival, compared=compared):
                    return self._rival(rival, work, image)
            except subprocess.TimeoutExpired as error:
                print(f"{rival} hung for {error.timeout:.0f} s and was killed; once more", flush=True)
        raise SystemExit(f"{rival} hung {_TURNS} times")

    def _rival(self, rival: Rival, work: Work, image: Image) -> float:
        if rival is Rival.FEW_FILES:
            return self.ours.round(self._job(work, image)).seconds
        if rival is Rival.AGENT:
            return self.agent.round(self._job(work, image)).seconds
        return seconds(command(rival, image, self._source(work, image), self._disk(image)), self.log)

    def _job(self, work: Work, image: Image) -> Job:
        return Job(
            source=self._source(work, image),
            sha256=self.images.sha256[image] if work.checked else None,
            device=self._disk(image),
            capacity=self.images.virtual_sizes[image],
        )

    def _source(self, work: Work, image: Image) -> str:
        return self.url + image if work.over_http else str(self.images.path(image))

    def _disk(self, image: Image) -> str:
        return self.disks[self.images.virtual_sizes[image]]

    @contextmanager
    def _blank_disk(self, image: Image, side: str, *, compared: bool) -> Iterator[None]:
        disk = self._disk(image)
        # Some sides call sync, which waits for what anybody on the machine has written.
        os.sync()
        try:
            yield
            if compared:
                os.sync()
                _compare(self.images.original(image), backing_file(disk), side)
        finally:
            blank(disk)


def _compare(original: Path, disk: Path, side: str) -> None:
    # cmp would read every hole of a TiB. What the smaller one lacks must be zeros.
    found = "qcow2" if original.suffix == ".qcow2" else "raw"
    argv = ["qemu-img", "compare", "-f", found, "-F", "raw", str(original), str(disk)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{side} wrote something else than {original.name}: {done.stdout}{done.stderr}")


def _check_memory(images: Images, size: int) -> None:
    # Some rivals write every zero, and the agent keeps a copy of the image.
    tmpfs = size + images.path(Image.QCOW2).stat().st_size
    available, free = _available_memory(), shutil.disk_usage(IN_MEMORY).free
    wanted = tmpfs + images.stored_bytes() + _SPARE
    if available < wanted:
        raise SystemExit(
            f"{wanted / GIB:.1f} GiB of memory are wanted, for the images in the page cache and the disk,"
            f" and {available / GIB:.1f} are available"
        )
    if free < tmpfs:
        raise SystemExit(f"{IN_MEMORY}: {tmpfs / GIB:.1f} GiB are wanted, {free / GIB:.1f} are free")


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    raise RuntimeError("the kernel doesn't tell how much memory is available")
