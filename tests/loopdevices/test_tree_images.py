"""Archives of files unpacked onto volumes; GNU tar made them, and says whether what is there is what it put in."""

from __future__ import annotations

import gzip
import io
import os
import resource
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from libironic_disk import filesystems, images, multiboot, switching, treeimages
from libironic_disk.errors import (
    ChecksumMismatch,
    DescriptionInvalid,
    DiskState,
    ImageDamaged,
    PathFailed,
)
from libironic_disk.events import ignore
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import disks, inside, oracles

pytestmark = pytest.mark.loopdevice


@pytest.fixture
def volumes(bench: Bench) -> dict[str, tuple[str, FileSystem]]:
    """A root, and a volume below it."""
    made = {}
    for number, mount in enumerate(("/", "/usr/share")):
        node = bench.disk(64 * MIB, 512).node
        uuid = f"aaaaaaaa-0000-4000-8000-00000000000{number}"
        filesystems.make(FileSystem.EXT4, node, label="", uuid=uuid)
        made[mount] = (node, FileSystem.EXT4)
    return made


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A tree with all that a system has."""
    tree = tmp_path / "tree"
    for folder in ("boot", "etc", "usr/bin", "usr/share/doc", "tmp"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/name").write_text("a system\n")
    (tree / "boot/vmlinuz-1").write_bytes(os.urandom(3 * MIB))
    (tree / "usr/share/doc/text").write_text("text\n")
    (tree / "usr/bin/su").write_bytes(b"#!/bin/sh\n")
    (tree / "usr/bin/su").chmod(0o4755)
    os.chown(tree / "etc/name", 1234, 5678)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc/mtab").symlink_to("/proc/mounts")
    os.link(tree / "usr/bin/su", tree / "usr/bin/sudo")
    os.mkfifo(tree / "tmp/fifo")
    os.mknod(tree / "tmp/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tree / "tmp").chmod(0o1777)
    os.setxattr(tree / "etc/name", "trusted.mine", b"kept")
    (tree / "etc/ümläut \n name").write_text("x")
    return tree


def archived(tree: Path, target: Path, *options: str) -> Path:
    subprocess.run(
        ["tar", "--create", "--xattrs", f"--file={target}", *options, f"--directory={tree}", "."], check=True
    )
    return target


def listing(tree: Path) -> list[tuple[object, ...]]:
    """Return what every file is, but for where it is on a disk and when a directory was last changed."""
    rows: list[tuple[object, ...]] = []
    for path in sorted(tree.rglob("*")):
        if path.name == "lost+found":
            continue
        found = path.lstat()
        contents = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = str(path.readlink()) if path.is_symlink() else ""
        times = found.st_mtime_ns // 10**9 if path.is_file() and not path.is_symlink() else 0
        names = os.listxattr(path, follow_symlinks=False)
        rows.append(
            (
                str(path.relative_to(tree)),
                found.st_mode,
                found.st_uid,
                found.st_gid,
                found.st_rdev,
                found.st_nlink if path.is_file() else 0,
                times,
                contents,
                target,
                tuple(sorted(names)),
            )
        )
    return rows


@pytest.mark.parametrize("format", ["gnu", "pax", "ustar"])
def test_a_system_is_unpacked_onto_its_volumes(
    volumes: dict[str, tuple[str, FileSystem]], system: Path, tmp_path: Path, format: str
) -> None:
    xattrs = () if format == "pax" else ("--no-xattrs",)
    path = archived(system, tmp_path / "system.tar", f"--format={format}", *xattrs)
    if format != "pax":
        os.removexattr(system / "etc/name", "trusted.mine")
    count = treeimages.unpack(images.inspect(path), volumes, sink=ignore)
    assert count == len(listing(system)) + 1
    where = tmp_path / "root"
    with disks.mounted(volumes["/"][0], where), disks.mounted(volumes["/usr/share"][0], where / "usr/share"):
        assert listing(where) == listing(system)
        if format == "pax":
            assert os.getxattr(where / "etc/name", "trusted.mine") == b"kept"
        compared = subprocess.run(
            ["tar", "--diff", "--numeric-owner", f"--file={path}", f"--directory={where}"],
            capture_output=True,
            text=True,
            check=False,
        )
    differences = [line for line in compared.stdout.splitlines() if "Mod time differs" not in line]
    assert differences == []


def test_a_compressed_archive_and_its_checksum(
    volumes: dict[str, tuple[str, FileSystem]], system: Path, tmp_path: Path
) -> None:
    path = tmp_path / "system.tar.gz"
    path.write_bytes(gzip.compress(archived(system, tmp_path / "system.tar").read_bytes()))
    image = images.inspect(path)
    assert treeimages.is_tree(image)
    treeimages.unpack(image, volumes, sink=ignore)
    wrong = images.inspect(path, checksum="sha256:" + "0" * 64)
    with pytest.raises(ChecksumMismatch):
        treeimages.unpack(wrong, volumes, sink=ignore)


def members(*rows: tuple[str, bytes, str]) -> bytes:
    """Return an archive of members: a name, a type and where a link leads."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, link in rows:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"evil") if kind == tarfile.REGTYPE else None)
    return data.getvalue()


REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "rows",
    [
        [("../out", REG, "")],
        [("a/../../out", REG, "")],
        [("x", LNK, "../../etc/shadow")],
        [("x", LNK, "missing")],
        [("usr/share/x", LNK, "etc")],
        [("file", REG, ""), ("file/below", REG, "")],
        [("link", SYM, "/nowhere"), ("link/below", REG, "")],
    ],
)
def test_a_member_that_cannot_be_is_refused(
    volumes: dict[str, tuple[str, FileSystem]], tmp_path: Path, rows: Sequence[tuple[str, bytes, str]]
) -> None:
    path = tmp_path / "evil.tar"
    path.write_bytes(members(*rows))
    with pytest.raises(PathFailed):
        treeimages.unpack(images.inspect(path), volumes, sink=ignore)


@pytest.mark.parametrize("target", ["/", "/etc", "../../../../..", "/proc/self/root", "/proc/self/cwd"])
def test_a_link_leads_nowhere_out_of_the_tree(
    volumes: dict[str, tuple[str, FileSystem]], tmp_path: Path, target: str
) -> None:
    name = f"libironic_disk-test-{os.getpid()}"
    path = tmp_path / "evil.tar"
    path.write_bytes(members(("link", SYM, target), (f"link/{name}", REG, "")))
    with suppress(PathFailed):
        treeimages.unpack(images.inspect(path), volumes, sink=ignore)
    for outside in (Path("/"), Path("/etc"), Path.cwd(), tmp_path, Path("/proc/self/root")):
        assert not (outside / name).exists()


def test_a_member_that_comes_again_takes_the_place_of_a_link(
    volumes: dict[str, tuple[str, FileSystem]], tmp_path: Path
) -> None:
    path = tmp_path / "evil.tar"
    path.write_bytes(members(("target", REG, ""), ("x", SYM, "target"), ("x", REG, "")))
    treeimages.unpack(images.inspect(path), volumes, sink=ignore)
    with disks.mounted(volumes["/"][0], tmp_path / "root") as root:
        assert not (root / "x").is_symlink()


def damaged(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    yield data[:1024] + os.urandom(len(data) - 1024)
    yield data[:148] + b"9" * 8 + data[156:]
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    yield header.tobuf(tarfile.GNU_FORMAT) + bytes(10 * MIB)


def test_an_archive_that_is_damaged_or_a_trap_is_refused(
    volumes: dict[str, tuple[str, FileSystem]], system: Path, tmp_path: Path
) -> None:
    data = archived(system, tmp_path / "system.tar").read_bytes()
    path = tmp_path / "damaged.tar"
    for each in damaged(data):
        path.write_bytes(each)
        with pytest.raises((ImageDamaged, PathFailed)):
            treeimages.unpack(images.inspect(path), volumes, sink=ignore)


def test_a_volume_that_is_full_is_told(
    volumes: dict[str, tuple[str, FileSystem]], system: Path, tmp_path: Path
) -> None:
    (system / "large").write_bytes(os.urandom(80 * MIB))
    path = archived(system, tmp_path / "system.tar")
    with pytest.raises(PathFailed, match="No space left"):
        treeimages.unpack(images.inspect(path), volumes, sink=ignore)


def description(node: str, path: Path, **root: object) -> MultibootRequest:
    document = {
        "images": [{"name": "files", "image_pull_url": f"file://{path}", "target": "/"}],
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": node},
                "volumes": [
                    {"type": "partition", "mount": "/", "size": "100", "name": "root", **root},
                    {"type": "partition", "mount": "/usr/share", "size": "32", "file_system": "ext4", "name": "share"},
                ],
            }
        ],
        "partitions_policy": "clean",
    }
    return MultibootRequest(description=multiboot.read(document))


def test_an_archive_is_deployed_as_a_system(bench: Bench, system: Path, tmp_path: Path) -> None:
    path = archived(system, tmp_path / "system.tar")
    disk = bench.disk(400 * MIB, 512)
    wanted = multiboot.plan(description(disk.node, path, file_system="ext4"))
    assert "root gets the files of the archive files, the default" in str(wanted)
    result = multiboot.apply(wanted)
    (element,) = result.info.elements
    assert element.kernel == "/boot/vmlinuz-1"
    assert switching.verify(result.multiboot, [result.nodes["disk 1 root"]]) == ()
    with disks.mounted(result.nodes["disk 1 share"], tmp_path / "share") as share:
        assert (share / "doc/text").read_text() == "text\n"
    with disks.mounted(result.nodes["disk 1 root"], tmp_path / "root") as root:
        assert "/usr/share ext4" in (root / "etc/fstab").read_text()


def with_boot(node: str, path: Path, **boot: object) -> MultibootRequest:
    volumes = [
        {"type": "partition", "mount": "/", "size": "100", "name": "root", "file_system": "ext4"},
        {"type": "partition", "mount": "/boot", "size": "64", "name": "kernels", **boot},
    ]
    document = {
        "images": [{"name": "files", "image_pull_url": f"file://{path}", "target": "/"}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": node}, "volumes": volumes}],
        "partitions_policy": "clean",
    }
    return MultibootRequest(description=multiboot.read(document))


def test_an_archive_may_have_its_kernels_on_a_volume_of_their_own(bench: Bench, system: Path, tmp_path: Path) -> None:
    path = archived(system, tmp_path / "system.tar")
    disk = bench.disk(400 * MIB, 512)
    result = multiboot.apply(multiboot.plan(with_boot(disk.node, path, file_system="ext4")))
    (element,) = result.info.elements
    assert element.kernel == "/vmlinuz-1"
    root, kernels = result.nodes["disk 1 root"], result.nodes["disk 1 kernels"]
    assert element.root_uuid == oracles.blkid(root)["UUID"]
    (entry,) = switching.list_entries(result.multiboot)
    with disks.mounted(result.multiboot, tmp_path / "multiboot") as folder:
        menu = (folder / "boot/grub/menu-a.cfg").read_text()
    assert f"--set=root {oracles.blkid(kernels)['UUID']}" in menu
    # Without an initial RAM disk the kernel itself has to find its root.
    (row,) = (row for row in oracles.sfdisk(disk.node).rows if row.name == "root")
    assert f"root=PARTUUID={row.uuid}" in entry.parameters
    assert switching.verify(result.multiboot, [root, kernels]) == ()
    switching.refresh(result.multiboot, [root, kernels])
    assert switching.list_entries(result.multiboot) == (entry,)


def test_kernels_on_what_grub_does_not_read_are_refused(bench: Bench, system: Path, tmp_path: Path) -> None:
    path = archived(system, tmp_path / "system.tar")
    disk = bench.disk(400 * MIB, 512)
    with pytest.raises(DescriptionInvalid, match="GRUB reads kernels from it, and vfat is made on it"):
        multiboot.plan(with_boot(disk.node, path, file_system="vfat"))


def test_an_archive_without_a_file_system_is_refused(bench: Bench, system: Path, tmp_path: Path) -> None:
    path = archived(system, tmp_path / "system.tar")
    disk = bench.disk(400 * MIB, 512)
    with pytest.raises(DescriptionInvalid, match="nothing says which file system is made") as caught:
        multiboot.plan(description(disk.node, path))
    assert caught.value.disk is DiskState.UNCHANGED


def header(kind: bytes, size: int = 0, name: str = "x") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(kind: bytes, data: bytes) -> bytes:
    return header(kind, len(data)) + data + bytes(-len(data) % 512)


def record(keyword: str, value: str) -> bytes:
    rest = f" {keyword}={value}\n"
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
    return f"{length}{rest}".encode()


SPARSE = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", "1")
TRAPS = {
    "pax headers of pax headers": padded(b"x", record("a", "b")) * 2000,
    "long names of long names": padded(tarfile.GNUTYPE_LONGNAME, b"n") * 2000,
    "headers of all members without end": padded(b"g", record("a", "b" * 900_000)) * 60,
    "a sparse file's parts without end": padded(b"x", SPARSE)
    + header(REG, 64 * MIB)
    + b"99999999\n"
    + b"0\n" * 32 * MIB,
    "an old sparse file that is cut off": header(tarfile.GNUTYPE_SPARSE)[:482] + b"\x01" + bytes(29),
    "records that overlap": padded(b"x", (b"2 " * 500_000) + b"=\n"),
    "digits": padded(b"x", record("a", "1" * 900_000)),
    "a length of ten thousand digits": padded(b"x", b"9" * 10_000 + b" a=b\n"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_headers_that_were_made_to_do_harm_are_refused_at_once(
    volumes: dict[str, tuple[str, FileSystem]], tmp_path: Path, trap: str
) -> None:
    path = tmp_path / "evil.tar"
    data = TRAPS[trap]
    if data[156:157] == tarfile.GNUTYPE_SPARSE:
        data = data[:148] + f"{sum(data[:148]) + 8 * 32 + sum(data[156:]):06o}\0 ".encode() + data[156:]
    path.write_bytes(data + header(REG))
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageDamaged, match="no sound tar archive"):
        treeimages.unpack(images.inspect(path), volumes, sink=ignore)
    assert time.process_time() - began < inside.patience(3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024


@pytest.mark.parametrize("end", ["cut off between members", "cut off in a header", "a damaged header"])
def test_an_archive_without_its_end_is_never_a_whole_one(
    volumes: dict[str, tuple[str, FileSystem]], tmp_path: Path, end: str
) -> None:
    data = members(("one", REG, ""), ("two", REG, ""))[:2048]
    match end:
        case "cut off between members":
            data = data[:1024]
        case "cut off in a header":
            data = data[:1300]
        case _:
            data = data[:1030] + b"!" + data[1031:] + bytes(1024)
    path = tmp_path / "cut.tar"
    path.write_bytes(data)
    with pytest.raises(ImageDamaged, match="where a member or its end should be"):
        treeimages.unpack(images.inspect(path), volumes, sink=ignore)
