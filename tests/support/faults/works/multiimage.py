"""Several images onto a disk that boots something else, and one of several anew while the others stay."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from libironic_disk import multiboot
from libironic_disk.errors import DiskState, leaving
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.multiboot import MultibootRequest, MultibootResult
from libironic_disk.request import FirmwareEntry
from libironic_disk.units import MIB
from tests.support import documents, oracles
from tests.support.disks import LoopDisk, copied
from tests.support.faults.scenes import OldDisk, folder, old_disk
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.faults.works.deployments import assert_says_state, part_file
from tests.support.faults.works.switches import as_grub_reads
from tests.support.multiboot_partition import image_files
from tests.support.oracles import Row

SIZE = 420 * MIB
_IMAGE = 24 * MIB
_ROOT = "40"
_MULTIBOOT = "multiboot"
# The Discoverable Partitions Specification's.
_LVM_TYPE = "e6d6d379-f507-44c2-a23c-238f2a3df928"


def files(version: str) -> dict[str, bytes]:
    """Return the files of a system with a kernel of this version, which os-prober's probes take for one too."""
    release = f'NAME="Test"\nPRETTY_NAME="Test {version}"\n'.encode()
    return {
        **image_files(version),
        "/etc/os-release": release,
        "/etc/fstab": b"# own\n",
        "/usr/lib64/ld-linux-x86-64.so.2": b"",
    }


def file_system(folder: Path, version: str) -> Path:
    """Make an image of an ext4."""
    tree = folder / f"tree-{version}"
    for path, content in files(version).items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    image = folder / f"{version}.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), f"{_IMAGE // MIB}M"], check=True)
    return image


def archive(folder: Path, version: str) -> Path:
    """Make an image that is a compressed archive of files."""
    path = folder / f"{version}.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name, content in files(version).items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            made.addfile(entry, io.BytesIO(content))
    return path


def asked(device: str, images: Mapping[str, Path], *, anew: Sequence[str] = (), root: str = _ROOT) -> dict[str, Any]:
    """Return a description of these systems, and of a volume that all share; all on a new disk, or ``anew`` alone."""
    kind = {"type": "partition", "file_system": "ext4"}
    volumes: list[dict[str, Any]] = [
        {**kind, "mount": "/", "images": [name], "size": root, "name": f"root-{name}", "keep_data": name not in anew}
        for name in images
    ]
    volumes.append({**kind, "mount": "/srv", "images": [*images], "size": "16", "keep_data": True})
    return {
        "images": documents.images(images),
        "partitions": [{"type": "disk", "id": {"type": "name", "value": device}, "volumes": volumes}],
        "partitions_policy": "verify" if anew else "clean",
    }


def request_for(
    description: dict[str, Any], *devices: str, seed: bytes = b"the new ones", os_prober: bool = True
) -> MultibootRequest:
    """Return a request for what :func:`asked` describes; ``devices`` are plain files instead of its own."""
    return MultibootRequest(
        description=multiboot.read(description),
        devices=devices,
        file_sector_size=512 if devices else None,
        firmware_entry=FirmwareEntry.NEVER,
        menu_timeout=1,
        seed=seed,
        os_prober=os_prober,
    )


def _call(request: MultibootRequest, sink: EventSink, cancel: Cancellation) -> MultibootResult:
    # Planning writes nothing, so its errors needn't say so.
    with leaving(DiskState.UNCHANGED):
        wanted = multiboot.plan(request)
    return multiboot.apply(wanted, sink=sink, cancel=cancel)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnewTry:
    """Several images onto a disk that boots others; ``versions`` of their kernels are in the menu's order."""

    disk: OldDisk
    scene: Scene
    request: MultibootRequest
    versions: tuple[str, ...]

    def call(self, sink: EventSink, cancel: Cancellation) -> MultibootResult:
        """Deploy."""
        return _call(self.request, sink, cancel)

    def told(self, error: BaseException) -> None:
        """See that the error says what is on the disk."""
        assert_says_state(error)

    def found(self, result: object | None) -> State:
        """Look at the disk: is it as before, is nothing there, or all of the new systems."""
        state = found_on(self.disk, self.versions)
        if state is State.NEW:
            assert_said(result)
        return state


def found_on(old: OldDisk, versions: Sequence[str]) -> State:
    """Look at a disk: is it as before, is nothing there, or all of some systems, in the menu's order."""
    if found := old.old_or_nothing():
        return found
    disk = old.disk
    if disk.sector_size == 512:
        oracles.check_gpt(disk.node)
    with Path(disk.node).open("rb") as file:
        assert b"GRUB" in file.read(440), "there is a table, and no boot code"
    menu = Menu.on(disk)
    assert menu.versions == tuple(versions), f"the menu has {menu.versions}"
    menu.assert_boots(disk)
    return State.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class OneAnewTry:
    """One system anew; ``kept`` are the bytes of all that is not to be touched."""

    disk: LoopDisk
    scene: Scene
    request: MultibootRequest
    kept: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def call(self, sink: EventSink, cancel: Cancellation) -> MultibootResult:
        """Deploy."""
        return _call(self.request, sink, cancel)

    def told(self, error: BaseException) -> None:
        """See that the error says what is on the disk."""
        assert_says_state(error)

    def found(self, result: object | None) -> State:
        """Look at the disk: what is kept is as it was, and what is in the menu is whole."""
        assert digest_of_kept(self.disk) == self.kept, "something was changed that is to be kept"
        menu = Menu.on(self.disk)
        menu.assert_boots(self.disk)
        assert menu.default == menu.entries[0][0], "another system is the default"
        if menu.versions == self.before[:1]:
            return State.NOTHING
        if menu.versions == self.before:
            return State.OLD
        assert menu.versions == self.after, f"the menu has {menu.versions}"
        assert_said(result)
        return State.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The menu that GRUB's own code finds on a disk."""

    default: str
    entries: tuple[tuple[str, str], ...]

    @classmethod
    def on(cls, disk: LoopDisk) -> Menu:
        """Read it."""
        row = next(row for row in rows(disk) if row.name == _MULTIBOOT)
        with part_of(disk, row) as node:
            _check_as_mounted(node)
            seen = as_grub_reads(Path(node))
        return cls(default=seen.variables["saved_entry"], entries=seen.menu)

    @property
    def versions(self) -> tuple[str, ...]:
        """The kernels' versions."""
        return tuple(kernel.rpartition("vmlinuz-")[2] for _, kernel in self.entries)

    def assert_boots(self, disk: LoopDisk) -> None:
        """Assert that GRUB's code reads each kernel and RAM disk whole, and that its root has its lines in fstab."""
        for entry, kernel in self.entries:
            version = kernel.rpartition("vmlinuz-")[2]
            with root_of(disk, entry.partition("-")[0]) as node:
                oracles.check_filesystem("ext4", node)
                for path in (kernel, f"/boot/initrd.img-{version}"):
                    said = oracles.output("grub-fstest", node, "crc", f"(loop0){path}").strip()
                    assert said == f"{zlib.crc32(files(version)[path]):08x}", f"{path} is not whole"
                fstab = oracles.output("debugfs", "-R", "cat /etc/fstab", node)
                assert f"UUID={oracles.blkid(node)['UUID']} / ext4" in " ".join(fstab.split())
                assert "# own" in fstab


def _check_as_mounted(node: str) -> None:
    """Assert that e2fsck is content with a file system when its journal is replayed, as whoever mounts it next does.

    A disk that fails leaves that to him; GRUB's code can't, and is asked what it reads.
    """
    if "needs_recovery" not in oracles.output("dumpe2fs", "-h", node):
        oracles.check_filesystem("ext4", node)
        return
    with folder() as where:
        copy = copied(Path(node), where / "copy")
        oracles.output("e2fsck", "-p", "-E", "journal_only", str(copy), ok=(0, 1))
        oracles.check_filesystem("ext4", str(copy))


def assert_said(result: object | None) -> None:
    """Assert that a warning says what went wrong with os-prober, and nothing that isn't so."""
    if isinstance(result, MultibootResult):
        wrong = [each for each in result.warnings if not each.startswith("os-prober could not look at ")]
        assert not wrong, f"warnings of what isn't so: {wrong}"


def rows(disk: LoopDisk) -> tuple[Row, ...]:
    """Return the partitions, as sfdisk sees them."""
    return oracles.sfdisk(disk.node).rows


def part_of(disk: LoopDisk, row: Row) -> AbstractContextManager[str]:
    """Give a partition as a device of its own."""
    return part_file(disk, row.start * disk.sector_size, row.size * disk.sector_size)


def root_of(disk: LoopDisk, system: str) -> AbstractContextManager[str]:
    """Give a system's root as a device of its own: a partition, or a logical volume of the disk's one group."""
    found = rows(disk)
    for row in found:
        if row.name == f"root-{system}":
            return part_of(disk, row)
    (member,) = (row for row in found if row.type_id == _LVM_TYPE)
    start, size = _volume_in(disk, member, f"root-{system}")
    return part_file(disk, start, size)


def _volume_in(disk: LoopDisk, member: Row, name: str) -> tuple[int, int]:
    """Return where on the disk a volume is, and its size, by what LVM says of its one piece; nothing is started."""
    with part_of(disk, member) as node:
        only = ("--devices", node, "--readonly")
        (pv,) = oracles.lvm("pvs", "pe_start,vg_extent_size", *only)
        volumes = {row["lv_name"]: row for row in oracles.lvm("lvs", "lv_name,lv_size,seg_pe_ranges", *only)}
    first = int(volumes[name]["seg_pe_ranges"].rpartition(":")[2].partition("-")[0])
    start = int(pv["pe_start"]) + first * int(pv["vg_extent_size"])
    return member.start * disk.sector_size + start, int(volumes[name]["lv_size"])


def digest_of_kept(disk: LoopDisk) -> str:
    """Return the digest of the whole disk but the multiboot partition and the second root."""
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    digest = hashlib.sha256()
    at = 0
    written = sorted((row.start, row.size) for row in rows(disk) if row.name in {_MULTIBOOT, "root-two"})
    with disk.file.open("rb") as file:
        for start, size in (*written, (os.fstat(file.fileno()).st_size // disk.sector_size, 0)):
            file.seek(at * disk.sector_size)
            digest.update(file.read((start - at) * disk.sector_size))
            at = start + size
    return digest.hexdigest()


@contextmanager
def _begin(base: Path, images: Mapping[str, Path], versions: tuple[str, ...]) -> Iterator[Try]:
    with old_disk(base) as (disk, scene):
        request = request_for(asked(disk.disk.node, images))
        yield AnewTry(disk=disk, scene=scene, request=request, versions=versions)


@contextmanager
def _begin_one(
    base: Path, images: Mapping[str, Path], before: tuple[str, ...], after: tuple[str, ...]
) -> Iterator[Try]:
    with old_disk(base) as (disk, scene):
        request = request_for(asked(disk.disk.node, images, anew=["two"]), seed=b"both")
        kept = digest_of_kept(disk.disk)
        yield OneAnewTry(disk=disk.disk, scene=scene, request=request, kept=kept, before=before, after=after)


def _deployed(base: Path, images: Mapping[str, Path], seed: bytes) -> Path:
    with base.open("wb") as file:
        file.truncate(SIZE)
    multiboot.apply(multiboot.plan(request_for(asked(str(base), images), str(base), seed=seed)))
    return base


def several(folder: Path) -> Of:
    """A file system and an archive of files, onto a disk that boots another system."""
    base = _deployed(folder / "old.img", {"old": file_system(folder, "1")}, b"the old one")
    images = {"one": file_system(folder, "4"), "two": archive(folder, "5")}
    return Of(name="deploy two images", begin=partial(_begin, base, images, ("4", "5")))


def one_anew(folder: Path) -> Of:
    """The second of two systems anew, the first one and a volume of both kept."""
    first = file_system(folder, "1")
    base = _deployed(folder / "two.img", {"one": first, "two": file_system(folder, "2")}, b"both")
    images = {"one": first, "two": file_system(folder, "3")}
    return Of(name="deploy one of two images anew", begin=partial(_begin_one, base, images, ("1", "2"), ("1", "3")))
