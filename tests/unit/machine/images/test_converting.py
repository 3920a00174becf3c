"""Images that qemu-img decodes: kept first where they are no plain files, checked, and nothing of them left behind."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    Cancelled,
    ChecksumMismatch,
    DiskError,
    ImageRefused,
    ImageTooLarge,
    SourceFailed,
    ToolMissing,
)
from libironic_disk.events import Cancellation, Event
from libironic_disk.images import Engine, ImageFormat, InspectedImage, Proof
from libironic_disk.machine import process
from libironic_disk.units import GIB, MIB
from tests.support.oracles import output
from tests.support.qcow2_images import converted, created, raw_image
from tests.support.streams import Broken, Endless
from tests.support.written import OLD, packed, used, write

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return used(tmp_path / "target", 24 * MIB)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


def inspect(source: images.ImageSource, **options: object) -> InspectedImage:
    return images.inspect(source, engine=Engine.QEMU_IMG, **options)  # type: ignore[arg-type]


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[tuple[str, ...]]:
    """Do something each time before a program is run; return what was run."""
    ran: list[tuple[str, ...]] = []
    real = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        act()
        ran.append(argv)
        return real(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    return ran


def kept_in(spool: Path) -> dict[int, os.stat_result]:
    """Return the files in a directory that this process has open, by inode: those without a name are found so only."""
    found: dict[int, os.stat_result] = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that is used to look
            if str(spool) in str(link.readlink()):
                found[link.stat().st_ino] = link.stat()
    return found


def test_a_plain_file_is_not_kept_and_a_stream_only_as_long_as_needed(
    raw: Path, target: Path, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    kept: list[int] = []

    ran = meanwhile(monkeypatch, lambda: kept.append(len(kept_in(spool))))
    write(inspect(path), target, spool_dir=spool)
    write(inspect(io.BytesIO(path.read_bytes())), used(target, 24 * MIB), spool_dir=spool)
    assert [argv[1] for argv in ran] == ["convert", "convert"]
    assert kept == [0, 1]
    assert not kept_in(spool)
    assert not [*spool.iterdir()]
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "reset by peer", "checksum"])
@pytest.mark.parametrize("pack", ["gzip", None])
def test_a_stream_that_is_not_what_it_should_be_is_found_before_the_first_write(
    raw: Path, target: Path, spool: Path, tmp_path: Path, damage: str, pack: str | None
) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    whole = (packed(path, pack) if pack else path).read_bytes()
    stream = {
        "truncated": io.BytesIO(whole[:-1000]),
        "reset by peer": Broken(whole, len(whole) - 1000),
        "checksum": io.BytesIO(whole),
    }[damage]
    with pytest.raises(DiskError, match=damage):
        image = inspect(stream, checksum="0" * 32 if damage == "checksum" else None)
        write(image, target, spool_dir=spool)
    assert target.read_bytes() == OLD * 24 * MIB
    assert not [*spool.iterdir()]
    assert threading.active_count() == 1


def test_a_file_is_digested_as_qemu_img_reads_it(raw: Path, target: Path, tmp_path: Path) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    checksum = output("sha256sum", str(path)).split()[0]
    assert write(inspect(path, checksum=checksum), target).proof is Proof.CHECKSUM
    image = inspect(path, checksum=checksum)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(0, 0))
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(image, used(target, 24 * MIB))
    with pytest.raises(ChecksumMismatch):
        write(inspect(path, checksum=checksum), target)
    assert target.read_bytes() == OLD * 24 * MIB


def test_holes_of_a_file_are_kept_as_holes(tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(64 * MIB + 777)
        file.seek(32 * MIB)
        file.write(b"x" * MIB)
    kept: list[os.stat_result] = []
    meanwhile(monkeypatch, lambda: kept.extend(kept_in(spool).values()))
    checksum = output("sha256sum", str(path)).split()[0]
    target = used(tmp_path / "target", 64 * MIB + 777)
    write(inspect(path, checksum=checksum), target, spool_dir=spool)
    assert target.read_bytes() == path.read_bytes()
    (found,) = kept
    assert found.st_size == 64 * MIB + 777
    assert MIB <= found.st_blocks * 512 < 2 * MIB


def test_a_stream_without_an_end_is_stopped(tmp_path: Path) -> None:
    endless = Endless(created(tmp_path / "image.qcow2", MIB).read_bytes())
    with pytest.raises(ImageRefused, match="goes on"):
        write(inspect(endless), used(tmp_path / "target", MIB))
    assert endless.given < 128 * MIB


def test_a_spool_that_cannot_be_kept_is_reported(raw: Path, target: Path, tmp_path: Path) -> None:
    whole = converted(raw, tmp_path / "image.qcow2").read_bytes()
    with pytest.raises(SourceFailed, match=r"can't be kept in .*absent"):
        write(inspect(io.BytesIO(whole), name="upload"), target, spool_dir=tmp_path / "absent")


def test_a_backing_file_that_appears_after_inspection_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = created(tmp_path / "image.qcow2", MIB)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * MIB)
    image = inspect(path)
    target = used(tmp_path / "target", MIB)

    def act() -> None:
        name = os.fsencode(secret)
        with path.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack(">QI", 4096, len(name)))
            file.seek(4096)
            file.write(name)

    ran = meanwhile(monkeypatch, act)
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(image, target)
    assert len(ran) == 1
    assert b"secret" not in target.read_bytes()


def test_another_image_at_the_same_path_is_not_read(
    raw: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    other = created(tmp_path / "other.qcow2", 24 * MIB, "", "write -q -P 6 0 24M")
    image = inspect(path)
    ran = meanwhile(monkeypatch, lambda: other.rename(path))
    write(image, target)
    assert len(ran) == 1
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize(
    ("as_stream", "verify"), [(False, False), (True, False), (True, True)], ids=["file", "stream", "verified-stream"]
)
def test_it_can_be_cancelled(tmp_path: Path, spool: Path, as_stream: bool, verify: bool) -> None:
    # qemu-img has to be busy for longer than it takes to look at it for the first time.
    path = created(tmp_path / "image.qcow2", GIB, "", f"write -q -P 1 0 {100 if as_stream else 900}M")
    target = tmp_path / "target"
    with target.open("wb") as file:
        file.truncate(GIB)
    cancel = Cancellation()
    with path.open("rb") as stream, pytest.raises(Cancelled):
        image = inspect(stream if as_stream else path)
        write(image, target, sink=lambda event: cancel.cancel(), cancel=cancel, verify=verify, spool_dir=spool)
    assert threading.active_count() == 1
    assert not [*spool.iterdir()]


@pytest.mark.parametrize("as_stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
def test_what_a_sink_raises_reaches_the_caller(
    raw: Path, target: Path, tmp_path: Path, spool: Path, as_stream: bool, verify: bool
) -> None:
    path = converted(raw, tmp_path / "image.qcow2")

    def sink(event: Event) -> None:
        raise ZeroDivisionError

    with path.open("rb") as stream, pytest.raises(ZeroDivisionError):
        write(inspect(stream if as_stream else path), target, sink=sink, verify=verify, spool_dir=spool)
    assert threading.active_count() == 1
    assert not [*spool.iterdir()]


def test_a_missing_qemu_img_is_found_before_anything_else_and_missed_by_nobody_else(
    raw: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    image = inspect(path)
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-utils"):
        write(image, target)
    assert target.read_bytes() == OLD * 24 * MIB
    write(images.inspect(path), target)
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
@pytest.mark.parametrize("pack", ["xz", None])
def test_another_format_from_a_stream_is_written(
    raw: Path, target: Path, tmp_path: Path, pack: str | None, verify: bool
) -> None:
    path = tmp_path / "image.vmdk"
    output("qemu-img", "convert", "-f", "raw", "-O", "vmdk", str(raw), str(path))
    path = packed(path, pack) if pack else path
    with path.open("rb") as stream:
        image = inspect(stream, declared=ImageFormat.VMDK)
        # How large its disk is will be known when all of it is in a file.
        assert (image.format, image.virtual_size) == (ImageFormat.VMDK, None)
        written = write(image, target, verify=verify)
    assert (written.bytes_read, written.bytes_written) == (path.stat().st_size, 24 * MIB)
    assert target.read_bytes() == raw.read_bytes()
    with path.open("rb") as stream, pytest.raises(ImageTooLarge) as refused:
        write(inspect(stream), used(target, 24 * MIB), capacity=23 * MIB, verify=verify)
    assert (refused.value.wanted, refused.value.available) == (24 * MIB, 23 * MIB)
    assert target.read_bytes() == OLD * 24 * MIB


def test_another_format_from_a_stream_is_checked_before_qemu_img_reads_it(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.vmdk"
    output("qemu-img", "create", "-q", "-f", "vmdk", str(path), "8M")
    unsafe = path.read_bytes().replace(b'SPARSE "image.vmdk"', b'FLAT "/etc/shadow" ')
    ran = meanwhile(monkeypatch, lambda: None)
    with pytest.raises(ImageRefused, match="isn't safe to read"):
        write(inspect(io.BytesIO(unsafe)), target)
    assert not ran
    assert target.read_bytes() == OLD * 24 * MIB
