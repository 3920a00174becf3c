"""Deployments of a whole-disk image onto a larger disk that boots another one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from libironic_disk import deploy
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.images import ImageType
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.tables.bootrecord import BOOT_CODE_SIZE
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import KIB, MIB
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, attach
from tests.support.faults.scenes import OldDisk, old_disk, old_file
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.faults.works.deployments import DRIVE, assert_is_drive, assert_says_state, part_file

SIZE = 8 * MIB
LARGER = 12 * MIB
GROWS_TO = 48 * MIB
_ENTRIES = 128 * 128
"""Bytes of a GPT's entries."""
_ROOT = (5 * MIB, 18 * MIB)
"""Where the file system is that grows, in bytes: its start and its size."""

Check = Callable[[LoopDisk], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTry:
    """A deployment of a whole-disk image."""

    digest: str
    scene: Scene
    request: DeployRequest
    look: Callable[[], AbstractContextManager[LoopDisk]]
    """Gives the disk as a loop device."""
    check: Check
    """Asserts that a disk has all that was asked for."""

    def call(self, sink: EventSink, cancel: Cancellation) -> DeployResult:
        """Deploy."""
        return deploy.deploy(self.request, sink=sink, cancel=cancel)

    def found(self, result: object | None) -> State:
        """Look at the disk: is it as before, is nothing there, or all of the new system."""
        with self.look() as loop:
            if found := OldDisk(disk=loop, digest=self.digest).old_or_nothing():
                return found
            self.check(loop)
            return State.NEW

    def told(self, error: BaseException) -> None:
        """See that the error says what is on the disk."""
        assert_says_state(error)


def has_all_of(image: Path, disk: LoopDisk) -> None:
    """Assert that a disk has all of a raw whole-disk image, and a config drive behind it."""
    with image.open("rb") as wanted, disk.file.open("rb") as found:
        # But for the tables: these are changed, since the disk is larger and gets a partition more.
        behind = 2 * disk.sector_size + _ENTRIES
        for what, start, end in (
            ("boot code", 0, BOOT_CODE_SIZE),
            ("partitions", behind, image.stat().st_size - MIB),
        ):
            wanted.seek(start)
            found.seek(start)
            same = wanted.read(end - start) == found.read(end - start)
            assert same, f"the {what} are not as in the image"
    _has_a_drive(disk)


def has_grown(disk: LoopDisk) -> None:
    """Assert that the root of the image fills what is free, is whole, and has its file."""
    _has_a_drive(disk)
    row = oracles.sfdisk(disk.node).rows[1]
    assert row.size * disk.sector_size > GROWS_TO // 2, "its partition has not grown"
    with part_file(disk, row.start * disk.sector_size, row.size * disk.sector_size) as root:
        oracles.check_filesystem("ext4", root)
        said = oracles.output("dumpe2fs", "-h", root).split("Block count:")[1].split()[0]
        assert int(said) * KIB > GROWS_TO // 2, "its file system has not grown"
        assert oracles.output("debugfs", "-R", "cat /etc/hostname", root) == "new"


def _has_a_drive(disk: LoopDisk) -> None:
    if disk.sector_size == 512:
        oracles.check_gpt(disk.node)
    # It was added to the image's own partitions.
    row = oracles.sfdisk(disk.node).rows[-1]
    with part_file(disk, row.start * disk.sector_size, row.size * disk.sector_size) as part:
        assert_is_drive(part)


@contextmanager
def _begin(base: Path, image: Path, check: Check, sector_size: int, grow: bool) -> Iterator[Try]:
    with old_disk(base, sector_size=sector_size, sources=(image,)) as (disk, scene):
        request = _request(disk.disk.node, image, grow=grow)
        yield WholeTry(
            digest=disk.digest, scene=scene, request=request, look=lambda: nullcontext(disk.disk), check=check
        )


@contextmanager
def _begin_on_file(base: Path, image: Path, check: Check) -> Iterator[Try]:
    with old_file(base, sources=(image,)) as (digest, scene):
        (file,) = scene.files
        request = _request(str(file), image, file_sector_size=512)
        yield WholeTry(digest=digest, scene=scene, request=request, look=partial(attach, file, 512), check=check)


def _request(device: str, image: Path, *, grow: bool = False, file_sector_size: int | None = None) -> DeployRequest:
    return DeployRequest(
        device=device,
        file_sector_size=file_sector_size,
        image=image,
        image_type=ImageType.WHOLE_DISK,
        grow=grow,
        config_drive=DRIVE,
        firmware_entry=FirmwareEntry.NEVER,
    )


def raw_image(folder: Path, *, sector_size: int = 512) -> Of:
    """A raw image with a config drive."""
    base = wholedisks.make_disk(folder / "old.img", LARGER, sector_size=sector_size, seed=2)
    image = wholedisks.make_disk(folder / "new.raw", SIZE, sector_size=sector_size, seed=1)
    begin = partial(_begin, base, image, partial(has_all_of, image), sector_size, False)
    more = "" if sector_size == 512 else f", sectors of {sector_size} bytes"
    return Of(name=f"deploy a whole-disk image{more}", begin=begin)


def onto_a_file(folder: Path) -> Of:
    """The same, onto a plain file, for which the library takes a loop device."""
    base = wholedisks.make_disk(folder / "old.img", LARGER, seed=2)
    image = wholedisks.make_disk(folder / "new.raw", SIZE, seed=1)
    begin = partial(_begin_on_file, base, image, partial(has_all_of, image))
    return Of(name="deploy a whole-disk image, onto a plain file", begin=begin)


def growing_image(folder: Path) -> Of:
    """A qcow2 image whose root grows, with a config drive."""
    base = wholedisks.make_disk(folder / "old.img", GROWS_TO, seed=2)
    image = wholedisks.as_qcow2(_with_a_root(folder))
    begin = partial(_begin, base, image, has_grown, 512, True)
    return Of(name="deploy a whole-disk image that grows", begin=begin)


def _with_a_root(folder: Path) -> Path:
    tree = folder / "tree" / "etc"
    tree.mkdir(parents=True)
    (tree / "hostname").write_text("new")
    image = folder / "new.raw"
    with image.open("wb") as file:
        file.truncate(24 * MIB)
    start, size = _ROOT
    script = f"label: gpt\nstart=2048, size=4096\nstart={start // 512}, size={size // 512}\n"
    with attach(image, 512) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node]
        subprocess.run(argv, input=script, text=True, check=True)
        subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    options = ["-t", "ext4", "-b", "1024", "-E", f"offset={start}", "-d", str(tree.parent)]
    oracles.output("mke2fs", "-q", "-F", *options, str(image), str(size // KIB))
    return image
