"""Images: what they are, whether they are safe, and writing them to a partition.

:func:`inspect` looks at an image without writing anything and refuses what is unsafe, damaged or not what it was
declared to be. Only what it returns can be written. :func:`write_image` writes a raw or qcow2 image and returns once
the device has confirmed every byte.

A raw image flows from its source to the writer, reading ahead. A qcow2 image is decoded by qemu-img; one from a
stream is kept in an anonymous temporary file first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from libironic_disk.errors import ImageRefused, ImageTooLarge
from libironic_disk.events import Cancellation, EventSink, ignore
from libironic_disk.machine import process
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.contents import Contents, contents_of_qcow2, contents_of_raw
from libironic_disk.machine.images.inspection import InspectedImage, inspect_file, inspect_stream
from libironic_disk.machine.images.qemu_img import DEFAULT_LIMITS, QemuLimits, TargetDriver
from libironic_disk.machine.images.sources.file import LocalFile, local_file
from libironic_disk.machine.images.sources.stream import Readable, StreamSource
from libironic_disk.machine.images.writer import open_target
from libironic_disk.machine.images.writing import Conversion, Meter, spooled, write_raw
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.pure.images.qcow2 import Header

__all__ = [
    "Contents",
    "ImageFormat",
    "ImageType",
    "ImageWritten",
    "InspectedImage",
    "QemuLimits",
    "Readable",
    "check_room",
    "infer_image_type",
    "inspect",
    "look_inside",
    "required_tools",
    "write_image",
]


class ImageType(StrEnum):
    """What an image holds; the words are Ironic's ``image_type``."""

    PARTITION = "partition"
    WHOLE_DISK = "whole-disk"


def infer_image_type(properties: Mapping[str, object], *, image: str = "without a name") -> ImageType:
    """Tell from an image's properties whether it holds one file system or a whole disk.

    ``image_type`` (Ironic) or ``img_type`` (Glance) decides where it is given. Otherwise an image that comes with
    both a kernel and a ramdisk is a partition image, and one with neither is a whole disk. They are given as
    ``kernel_id`` and ``ramdisk_id``, or as ``kernel`` and ``ramdisk`` where they are URLs; None and empty values
    count as absent.

    Raises:
        ImageRefused: an unknown type, or only one of kernel and ramdisk.
    """
    declared = properties.get("image_type") or properties.get("img_type")
    if declared:
        if declared not in set(ImageType):
            reason = f"its image type is {declared!r}; {' and '.join(ImageType)} are known"
            raise ImageRefused(image=image, reason=reason)
        return ImageType(str(declared))
    kernel = properties.get("kernel_id") or properties.get("kernel")
    ramdisk = properties.get("ramdisk_id") or properties.get("ramdisk")
    if bool(kernel) != bool(ramdisk):
        there, missing = ("kernel", "ramdisk") if kernel else ("ramdisk", "kernel")
        reason = f"it has a {there} but no {missing}: a partition image has both, a whole-disk image neither"
        raise ImageRefused(image=image, reason=reason)
    return ImageType.PARTITION if kernel else ImageType.WHOLE_DISK


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWritten:
    """An image that is on its device, confirmed by the kernel.

    ``bytes_read`` were read from the source. ``bytes_written`` is how much of the target, from its start, holds the
    image now, its zeros included.
    """

    format: ImageFormat
    bytes_read: int
    bytes_written: int
    seconds: float


def inspect(
    source: Path | Readable,
    *,
    declared: ImageFormat | None = None,
    name: str = "stream",
    size: int | None = None,
    cancel: Cancellation | None = None,
) -> InspectedImage:
    """Find out what an image is, and refuse what must not be written.

    A qcow2 image in a file is checked down to its last table, so that a truncated one is found here. Of a stream, the
    first bytes are read and kept for :func:`write_image`, which checks the tables before its first write.

    Args:
        source: a regular file, or an open blocking stream at the image's first byte. The stream stays the caller's.
        declared: what the image is said to be; None to accept raw or qcow2, whichever it is.
        name: what a stream is called in messages; a file is called by its path.
        size: how many bytes a stream will give, where that is known.
        cancel: asked while a file's tables are checked.

    Raises:
        ImageRefused: unsafe, damaged, empty, ambiguous, or of a format that isn't written.
        FormatMismatch: not what it was declared to be.
        SourceFailed: it can't be read.
        Cancelled: the caller wished so.
    """
    if isinstance(source, Path):
        return inspect_file(local_file(source), declared, cancel)
    return inspect_stream(StreamSource(source, name=name, size=size), declared)


def required_tools(image: InspectedImage) -> tuple[str, ...]:
    """Return the programs that :func:`write_image` will need for this image."""
    return (qemu_img.TOOL,) if image.format is ImageFormat.QCOW2 else ()


def look_inside(
    image: InspectedImage, *, limits: QemuLimits = DEFAULT_LIMITS, cancel: Cancellation | None = None
) -> Contents | None:
    """Find out what an image's disk holds, a file system or a partition table, without writing it anywhere.

    Returns:
        What its first bytes say; None for a stream, whose bytes can be had once only.

    Raises:
        ToolMissing: qemu-img is needed and not installed.
        SourceFailed: the image can't be read, or changed since it was inspected.
        ProgramFailed: qemu-img failed for another reason.
        ProgramTimedOut: qemu-img took too long.
        Cancelled: the caller wished so.
    """
    if not isinstance(image.source, LocalFile):
        return None
    if image.header is None:
        return contents_of_raw(image.source)
    return contents_of_qcow2(image.source, image.header.virtual_size, limits=limits, cancel=cancel)


def check_room(image: InspectedImage, target: str, capacity: int) -> None:
    """Check that an image fits, as far as its size is known.

    Raises:
        ImageTooLarge: it has more than ``capacity`` bytes.
    """
    if image.virtual_size is not None and image.virtual_size > capacity:
        raise ImageTooLarge(image=image.name, target=target, wanted=image.virtual_size, available=capacity)


def write_image(
    image: InspectedImage,
    target: str,
    *,
    capacity: int,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    spool_dir: Path | None = None,
    regular_file: bool = False,
    limits: QemuLimits = DEFAULT_LIMITS,
) -> ImageWritten:
    """Write an image to a block device, and return once the device has it.

    Where the image has zeros, or nothing, the target has zeros afterwards, whatever was there before. After a failure
    the target holds a part of the image.

    Args:
        image: what :func:`inspect` returned.
        target: the device's node.
        capacity: how many bytes of it may be written.
        sink: gets :class:`~libironic_disk.events.BytesMoved` about ten times a second, for qcow2 from another thread.
        cancel: asked all the time.
        spool_dir: where a qcow2 stream is kept while it is decoded; None for the system's directory.
        regular_file: ``target`` is a plain file instead.
        limits: what qemu-img may use.

    Raises:
        ImageTooLarge: before the first write, or for a stream of unknown size once ``capacity`` is passed.
        ToolMissing: qemu-img is needed and not installed.
        ImageRefused: a qcow2 stream turned out to be damaged; nothing was written.
        SourceFailed: the image failed, ended early or changed while it was read.
        NotABlockDevice: the target isn't one.
        DeviceReadOnly: the kernel refuses writes to it.
        DeviceFailed: the target couldn't be opened, written or flushed.
        ProgramFailed: qemu-img failed for another reason.
        ProgramTimedOut: qemu-img took too long.
        Cancelled: the caller wished so.
    """
    check_room(image, target, capacity)
    process.require(required_tools(image))
    started = time.monotonic()
    meter = Meter(sink, image.source.size)
    with open_target(target, capacity=capacity, regular_file=regular_file) as writer:
        if image.header is None:
            read = written = write_raw(image.source, writer, meter=meter, cancel=cancel)
        else:
            driver = TargetDriver.PLAIN_FILE if regular_file else TargetDriver.BLOCK_DEVICE
            conversion = Conversion(driver=driver, limits=limits, meter=meter, cancel=cancel)
            with _as_file(image.source, image.header, spool_dir, meter, cancel) as file:
                read = conversion.run(file, image.header, writer)
            written = image.header.virtual_size
        writer.flush()
    seconds = time.monotonic() - started
    return ImageWritten(format=image.format, bytes_read=read, bytes_written=written, seconds=seconds)


def _as_file(
    source: LocalFile | StreamSource,
    header: Header,
    spool_dir: Path | None,
    meter: Meter,
    cancel: Cancellation | None,
) -> AbstractContextManager[LocalFile]:
    if isinstance(source, LocalFile):
        return nullcontext(source)
    return spooled(source, header, spool_dir, meter=meter, cancel=cancel)
