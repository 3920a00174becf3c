"""A typed binding of qemu-img: explicit formats only, no other file ever opened, bounded memory and time.

An image is named by a ``json:`` description that gives the driver of every layer and says that there is no backing
file, so qemu-img has nothing to guess and nowhere else to look. The caller passes images and targets that it has open
as ``/proc/PID/fd/N``: any other path could lead somewhere else by the time qemu-img follows it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from libironic_disk.errors import DeviceFailed, ProgramFailed, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.units import GIB, MIB

TOOL: Final = "qemu-img"

# Without it glibc reserves 64 MiB of address space for every thread: the limit would be reached by reserving alone.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "3"}
_INPUT_OUTPUT: Final = re.compile(r"error while (reading|writing) at byte (\d+): (.*)")
_INPUT: Final = re.compile(r"error while reading from input image file: (.*)")
_BLOCK: Final = MIB
# Where qemu's driver isn't called by the name of the format.
_DRIVERS: Final = {ImageFormat.VHD: "vpc"}


class TargetDriver(StrEnum):
    """What is written to; qemu's names."""

    BLOCK_DEVICE = "host_device"
    PLAIN_FILE = "raw"


# A file may lie on a tmpfs, which takes no O_DIRECT before Linux 6.6.
_CACHES: Final = {TargetDriver.BLOCK_DEVICE: "none", TargetDriver.PLAIN_FILE: "writeback"}


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuLimits:
    """What qemu-img may use at most: bytes of address space, seconds until it is killed, seconds of processor time."""

    address_space: int = 2 * GIB
    timeout: float = 4 * 3600
    cpu_seconds: int = 8 * 3600


DEFAULT_LIMITS: Final = QemuLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """What qemu-img says about an image, in bytes."""

    image_format: str
    virtual_size: int
    allocated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something that qemu-img opens: by which path, and what it is called in errors."""

    path: str
    name: str

    @classmethod
    def of(cls, descriptor: int, name: str) -> Self:
        """Name what this process has open, by a path that other processes of the same user can follow."""
        return cls(path=f"/proc/{os.getpid()}/fd/{descriptor}", name=name)


def info(image: Place, image_format: ImageFormat, *, limits: QemuLimits = DEFAULT_LIMITS) -> ImageInfo:
    """Ask about an image of a known format.

    Raises:
        ProgramFailed: it isn't of that format, or is damaged.
    """
    answer = json.loads(_run("info", "--output", "json", _described(image, image_format), limits=limits).stdout)
    return ImageInfo(
        image_format=answer["format"], virtual_size=answer["virtual-size"], allocated=answer["actual-size"]
    )


def convert(
    source: Place,
    source_format: ImageFormat,
    target: Place,
    driver: TargetDriver,
    *,
    limits: QemuLimits = DEFAULT_LIMITS,
    moved: Callable[[int, int], None] | None = None,
    cancel: Cancellation | None = None,
) -> None:
    """Write an image's disk to a target that exists and is large enough; holes become zeros there.

    A device's cache is bypassed; the caller flushes the device, because qemu-img ignores the errors of its own last
    flush.

    Args:
        source: the image.
        source_format: its format.
        target: the device or file.
        driver: which of the two it is.
        limits: what the program may use.
        moved: called several times a second, from another thread, with the bytes that were read and written so far. The
            bytes that were read include some MiB of libraries; zeros that the device made by itself aren't counted.
            What it raises ends the reports at once, and is raised here after the program's end.
        cancel: kills the program.

    Raises:
        SourceFailed: the image can't be read to its end.
        DeviceFailed: the target can't be written.
        ProgramFailed: qemu-img failed in another way.
        ProgramTimedOut: it took too long.
        Cancelled: the caller wished so.
    """
    # -n: the target exists. -W: in any order, as a disk allows. -S: zeros shorter than 64 KiB are cheaper to write
    # than to offload; "-S 0" would write every hole as data. Without --target-is-zero, holes are zeroed.
    argv = (
        *("convert", "-n", "-W", "-m", "8", "-S", "64k", "-t", _CACHES[driver]),
        *("-O", driver.value, _described(source, source_format), target.path),
    )

    def watch(pid: int) -> None:
        counters = _counters(pid)
        if moved is not None and counters is not None:
            moved(*counters)

    try:
        _run(*argv, limits=limits, cancel=cancel, watch=watch)
    except ProgramFailed as error:
        _raise_translated(error, source, target)
        raise


def copy_head(
    source: Place,
    source_format: ImageFormat,
    target: Place,
    size: int,
    *,
    limits: QemuLimits = DEFAULT_LIMITS,
    cancel: Cancellation | None = None,
) -> None:
    """Write the first ``size`` bytes of an image's disk, whole MiB, to a file, which has only them afterwards.

    Raises:
        SourceFailed: the image can't be read.
        ProgramFailed: qemu-img failed in another way.
        ProgramTimedOut: it took too long.
        Cancelled: the caller wished so.
    """
    # No -f: the description of the source has its format already.
    argv = ("dd", "-O", "raw", f"bs={_BLOCK}", f"count={size // _BLOCK}")
    try:
        _run(*argv, f"if={_described(source, source_format)}", f"of={target.path}", limits=limits, cancel=cancel)
    except ProgramFailed as error:
        found = _INPUT.search(error.stderr)
        if found is None:
            raise
        raise SourceFailed(source=source.name, reason=f"{TOOL}: {found[1]}") from error


def _run(
    *argv: str,
    limits: QemuLimits,
    cancel: Cancellation | None = None,
    watch: Callable[[int], None] | None = None,
) -> process.Completed:
    return process.run(
        TOOL,
        *argv,
        timeout=limits.timeout,
        environment=_ENVIRONMENT,
        limits=process.Limits(address_space=limits.address_space, cpu_seconds=limits.cpu_seconds),
        cancel=cancel,
        watch=watch,
    )


def _described(image: Place, image_format: ImageFormat) -> str:
    driver = _DRIVERS.get(image_format, image_format.value)
    layers: dict[str, object] = {"driver": driver, "file": {"driver": "file", "filename": image.path}}
    if image_format is not ImageFormat.RAW:
        layers["backing"] = None
    return f"json:{json.dumps(layers)}"


def _counters(pid: int) -> tuple[int, int] | None:
    """How many bytes a process has read and written; None once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    counters = dict(line.split(": ") for line in lines)
    return int(counters["rchar"]), int(counters["wchar"])


def _raise_translated(error: ProgramFailed, source: Place, target: Place) -> None:
    found = _INPUT_OUTPUT.search(error.stderr)
    if found is None:
        return
    # The offset is one of the image's disk, which is the target's but not the source's.
    offset, said = int(found[2]), f"{TOOL}: {found[3]}"
    if found[1] == "writing":
        raise DeviceFailed(device=target.name, action="writing", reason=said, offset=offset) from error
    raise SourceFailed(source=source.name, reason=f"{said} (byte {offset} of its disk)") from error
