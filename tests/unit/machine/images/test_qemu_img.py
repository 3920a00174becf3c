"""The binding of qemu-img: what it passes, and how qemu-img's failures are told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from libironic_disk.errors import Cancelled, DeviceFailed, ProgramFailed, ProgramTimedOut, SourceFailed, ToolMissing
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.qemu_img import Place, QemuLimits, TargetDriver
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.units import GIB, MIB
from tests.support.oracles import output
from tests.support.qcow2_images import SOUND, assert_identical, converted, created, raw_image

QCOW2 = ImageFormat.QCOW2


def place(path: Path) -> Place:
    return Place(path=str(path), name=path.name)


def empty(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_info_says_what_qemu_img_says(tmp_path: Path) -> None:
    image = created(tmp_path / "i.qcow2", 5 * MIB)
    said = json.loads(output("qemu-img", "info", "-f", "qcow2", "--output", "json", str(image)))
    found = qemu_img.info(place(image), QCOW2)
    assert (found.image_format, found.virtual_size, found.allocated) == ("qcow2", 5 * MIB, said["actual-size"])


def test_a_format_is_never_guessed(tmp_path: Path) -> None:
    image = created(tmp_path / "i.qcow2", 5 * MIB)
    assert qemu_img.info(place(image), ImageFormat.RAW).image_format == "raw"
    with pytest.raises(ProgramFailed, match="not in qcow2 format"):
        qemu_img.info(place(empty(tmp_path / "raw", MIB)), QCOW2)


def test_a_backing_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret" * MIB)
    image = created(tmp_path / "i.qcow2", MIB, f"backing_file={tmp_path}/secret,backing_fmt=raw")
    target = empty(tmp_path / "target", MIB)
    qemu_img.convert(place(image), QCOW2, place(target), TargetDriver.PLAIN_FILE)
    assert target.read_bytes() == bytes(MIB)


def test_a_name_is_no_description(tmp_path: Path) -> None:
    image = created(tmp_path / "nbd:unix:x,file.driver=http", MIB)
    assert qemu_img.info(place(image), QCOW2).virtual_size == MIB


def test_an_open_file_is_converted_without_its_path(tmp_path: Path) -> None:
    raw = raw_image(tmp_path / "raw")
    image = converted(raw, tmp_path / "i.qcow2")
    target = tmp_path / "target"
    target.write_bytes(b"\xaa" * raw.stat().st_size)
    kept = tmp_path / "kept"
    kept.hardlink_to(target)
    with image.open("rb") as source, target.open("r+b") as sink:
        image.rename(tmp_path / "moved.qcow2")
        target.unlink()
        qemu_img.convert(
            Place.of(source.fileno(), "image"), QCOW2, Place.of(sink.fileno(), "target"), TargetDriver.PLAIN_FILE
        )
    assert_identical(tmp_path / "moved.qcow2", kept)


def test_it_reports_how_far_it_is(tmp_path: Path) -> None:
    image = created(tmp_path / "i.qcow2", 400 * MIB, "", "write -P 1 0 300M")
    moved: list[tuple[int, int]] = []
    target = empty(tmp_path / "target", 400 * MIB)
    qemu_img.convert(
        place(image),
        QCOW2,
        place(target),
        TargetDriver.PLAIN_FILE,
        moved=lambda read, written: moved.append((read, written)),
    )
    assert moved == sorted(moved)
    assert moved[-1][1] > 0


def test_an_unreadable_cluster_is_the_sources_failure(tmp_path: Path) -> None:
    image = tmp_path / "i.qcow2"
    # A compressed cluster of the letter d, which inflates to nothing.
    image.write_bytes(SOUND.but(l2={2: 1 << 62 | 4 << 16}).image())
    target = empty(tmp_path / "target", MIB)
    with pytest.raises(SourceFailed, match=r"i\.qcow2.*byte 131072 of its disk") as failed:
        qemu_img.convert(place(image), QCOW2, place(target), TargetDriver.PLAIN_FILE)
    assert isinstance(failed.value.__cause__, ProgramFailed)


def test_a_target_that_is_too_small_is_refused_by_qemu_img_too(tmp_path: Path) -> None:
    image, target = created(tmp_path / "i.qcow2", 2 * MIB), empty(tmp_path / "target", MIB)
    with pytest.raises(ProgramFailed, match="smaller than input"):
        qemu_img.convert(place(image), QCOW2, place(target), TargetDriver.PLAIN_FILE)


def test_a_failing_write_is_the_targets_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str, **options: object) -> process.Completed:
        said = "qemu-img: error while writing at byte 2097152: No space left on device\n"
        raise ProgramFailed(argv=argv, stderr=said, exit_code=1)

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(DeviceFailed, match="writing target at byte 2097152 failed: qemu-img: No space left"):
        qemu_img.convert(place(tmp_path / "image"), QCOW2, place(tmp_path / "target"), TargetDriver.PLAIN_FILE)


def test_memory_and_time_are_limited(tmp_path: Path) -> None:
    image, target = created(tmp_path / "i.qcow2", 64 * GIB), empty(tmp_path / "target", 64 * GIB)
    with pytest.raises(ProgramFailed):
        qemu_img.info(place(image), QCOW2, limits=QemuLimits(address_space=16 * MIB))
    with pytest.raises(ProgramTimedOut):
        qemu_img.convert(place(image), QCOW2, place(target), TargetDriver.PLAIN_FILE, limits=QemuLimits(timeout=0.01))


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    image = created(tmp_path / "i.qcow2", MIB)
    # Opening a pipe that nobody reads keeps qemu-img waiting for ever.
    os.mkfifo(tmp_path / "pipe")
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        qemu_img.convert(place(image), QCOW2, place(tmp_path / "pipe"), TargetDriver.PLAIN_FILE, cancel=cancel)


def test_a_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-utils"):
        qemu_img.info(place(tmp_path / "image"), QCOW2)
