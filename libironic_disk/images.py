"""Images: what they are, whether they are safe, and writing them to a partition.

:func:`inspect` looks at an image without writing anything and refuses what is unsafe, damaged or not what it was
declared to be. Only what it returns can be written. :func:`write_image` writes it and returns once the device has
confirmed every byte.

An image flows from wherever it is, through a decoder if it is compressed or qcow2, to the device: in one pass, in
bounded memory, without a copy. Other formats, and whatever its owner wants decoded so, go through qemu-img.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from libironic_disk.errors import ImageDamaged, ImageRefused, ImageTooLarge, SourceFailed
from libironic_disk.events import Cancellation, EventSink, ignore
from libironic_disk.machine import process
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images import contents, opening, qemu_img
from libironic_disk.machine.images.checksum_file import checksum_from
from libironic_disk.machine.images.contents import Contents
from libironic_disk.machine.images.converting import Conversion
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import IMAGE_POLICY
from libironic_disk.machine.images.inspection import InspectedImage, inspect_source
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.opening import ImageSource, InspectableSource
from libironic_disk.machine.images.qemu_img import DEFAULT_LIMITS, Place, QemuLimits, TargetDriver
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.machine.images.sources.stream import Readable
from libironic_disk.machine.images.streaming import proof_of, stream
from libironic_disk.machine.images.target import open_target
from libironic_disk.pure.images.checksums import Algorithm, Checksum, parse_checksum
from libironic_disk.pure.images.compression import Compression
from libironic_disk.pure.images.inspection import Engine, ImageFormat, Proof
from libironic_disk.pure.words import as_word

__all__ = [
    "IMAGE_POLICY",
    "Algorithm",
    "Checksum",
    "ChecksumSource",
    "Compression",
    "Contents",
    "Engine",
    "HttpPolicy",
    "ImageFormat",
    "ImageSource",
    "ImageType",
    "ImageWritten",
    "InspectedImage",
    "Location",
    "Proof",
    "QemuLimits",
    "Readable",
    "check_apart",
    "check_room",
    "check_whole",
    "first_bytes",
    "infer_image_type",
    "inspect",
    "look_inside",
    "required_tools",
    "write_image",
]

ChecksumSource = Checksum | str | Path | Location
"""A checksum; a text that is one (``sha256:...``, or a value) or a URL; or the place of a checksum file."""


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
    image now, its zeros included; ``bytes_zeroed`` of it were made zeros without being written. ``proof`` says what
    shows that the image came whole.
    """

    format: ImageFormat
    bytes_read: int
    bytes_written: int
    bytes_zeroed: int
    proof: Proof
    seconds: float


def inspect(
    source: ImageSource,
    *,
    declared: ImageFormat | None = None,
    checksum: ChecksumSource | None = None,
    engine: Engine = Engine.NATIVE,
    name: str = "stream",
    size: int | None = None,
    policy: HttpPolicy = IMAGE_POLICY,
    cancel: Cancellation | None = None,
) -> InspectedImage:
    """Find out what an image is, and refuse what must not be written.

    A qcow2 image in a plain file is checked down to its last table, so that a truncated one is found here. Of any
    other source the first 4 MiB are read, which stay in memory until it is written.

    Args:
        source: a path or a URL, several URLs of one image, an open blocking stream at the image's first byte, or an
            iterable of bytes. Compression around the image (gzip, xz, zstd, bzip2) is recognised by its bytes. A
            stream stays the caller's and can be written once.
        declared: what the image is said to be, inside of its compression; None to accept raw or qcow2, whichever.
        checksum: what its bytes must have, as they come from the source: a value or where one is.
        engine: what is to write it.
        name: what a stream is called in messages and in checksum files; others are called by their path or URL.
        size: how many bytes the source will give, where that is known.
        policy: how patient to be with servers.
        cancel: asked while a server is waited for and while tables are checked.

    Raises:
        ImageRefused: unsafe, damaged, empty, ambiguous, or of a format that isn't written.
        ImageDamaged: what is around it is no sound gzip, xz, zstd or bzip2.
        FormatMismatch: not what it was declared to be.
        ChecksumInvalid: the checksum isn't one, or the checksum file doesn't name the image's.
        SourceFailed: it, or its checksum file, can't be read, or it has another size.
        ToolMissing, ProgramFailed: qemu-img, which looks at other formats than raw and qcow2.
        Cancelled: the caller wished so.
    """
    found = opening.open_source(source, name=name, size=size, policy=policy, cancel=cancel)
    if size is not None and found.size is not None and found.size != size:
        raise SourceFailed(source=found.name, reason=f"it has {found.size} bytes, {size} were announced")
    wanted = None if checksum is None else _checksum(checksum, found, policy, cancel)
    return inspect_source(
        found,
        declared=as_word(ImageFormat, declared, "declared") if declared is not None else None,
        checksum=wanted,
        engine=as_word(Engine, engine, "engine"),
        cancel=cancel,
    )


def _checksum(
    checksum: ChecksumSource, image: InspectableSource, policy: HttpPolicy, cancel: Cancellation | None
) -> Checksum:
    place = opening.place(checksum) if isinstance(checksum, str) else checksum
    if isinstance(place, Checksum):
        return place
    if place is None:
        return parse_checksum(str(checksum))
    return checksum_from(place, name=opening.file_name(image), policy=policy, cancel=cancel)


def required_tools(image: InspectedImage) -> tuple[str, ...]:
    """Return the programs that :func:`write_image` will need for this image."""
    return (qemu_img.TOOL,) if image.engine is Engine.QEMU_IMG else ()


def first_bytes(
    image: InspectedImage,
    length: int,
    *,
    limits: QemuLimits = DEFAULT_LIMITS,
    cancel: Cancellation | None = None,
) -> bytes | None:
    """Return the first ``length`` bytes of an image's disk without writing it anywhere; 2 MiB at most.

    Returns:
        All bytes of a smaller disk; None where they can't be had without reading on, as from a stream whose qcow2
        tables come late.

    Raises:
        SourceFailed: the image can't be read, or changed since it was inspected.
        ImageDamaged: it is a qcow2 image in a file, and they can't be unpacked.
        ProgramFailed, ProgramTimedOut: qemu-img, which reads what is in other formats than raw and qcow2.
        Cancelled: the caller wished so.
    """
    return contents.head_of(image, min(length, contents.LOOKED_AT), limits=limits, cancel=cancel)


def look_inside(
    image: InspectedImage, *, limits: QemuLimits = DEFAULT_LIMITS, cancel: Cancellation | None = None
) -> Contents | None:
    """Find out what an image's disk holds, a file system or a partition table, without writing it anywhere.

    Returns:
        What its first bytes say; None where these can't be had, as for :func:`first_bytes`.

    Raises:
        SourceFailed, ImageDamaged, ProgramFailed, ProgramTimedOut, Cancelled: as :func:`first_bytes`.
    """
    head = first_bytes(image, contents.LOOKED_AT, limits=limits, cancel=cancel)
    return None if head is None else contents.contents_of(head, image.virtual_size, name=image.name)


def check_room(image: InspectedImage, target: str, capacity: int) -> None:
    """Check that an image fits, as far as its size is known.

    Raises:
        ImageTooLarge: it has more than ``capacity`` bytes.
    """
    if image.virtual_size is not None and image.virtual_size > capacity:
        raise ImageTooLarge(image=image.name, target=target, wanted=image.virtual_size, available=capacity)


def check_apart(image: InspectedImage, device: str) -> None:
    """Check that an image isn't the very file that is to be the disk.

    Raises:
        ImageRefused: it is.
    """
    if isinstance(image.source, LocalFile) and image.source.is_at(Path(device)):
        raise ImageRefused(image=image.name, reason=f"it is the disk {device} itself")


def check_whole(image: InspectedImage, file_system_size: int | None, size: int | None) -> None:
    """Check that a partition image has as many bytes as the file system in it, as far as both are known.

    Raises:
        ImageDamaged: it has fewer: it was cut off.
    """
    if None not in (file_system_size, size) and (file_system_size or 0) > (size or 0):
        reason = f"it is truncated: its file system has {file_system_size} bytes, the image only {size}"
        raise ImageDamaged(image=image.name, reason=reason, offset=size or 0)


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
    verify: bool = False,
) -> ImageWritten:
    """Write an image to a block device, and return once the device has it and its checksum was right.

    Where the image has zeros, or nothing, the target has zeros afterwards, whatever was there before. After a failure
    the target holds a part of the image. What is behind the image's end may be used meanwhile for clusters that wait
    for a table, and is zeros then.

    Args:
        image: what :func:`inspect` returned.
        target: the device's node.
        capacity: how many bytes of it may be written.
        sink: gets :class:`~libironic_disk.events.BytesMoved` about ten times a second; from another thread if qemu-img
            decodes.
        cancel: asked all the time.
        spool_dir: where qemu-img's input is kept if it isn't a plain file; None for the system's directory.
        regular_file: ``target`` is a plain file instead.
        limits: what qemu-img may use.
        verify: read everything back from the disk and compare it with what was written.

    Raises:
        ImageTooLarge: before the first write, or for an image of unknown size once ``capacity`` is passed.
        ToolMissing: qemu-img is needed and not installed.
        ImageRefused, ImageDamaged: what came turned out to be so.
        ImageOrderUnsupported: its tables come too late to decode it as it comes.
        ChecksumMismatch: it isn't the image that its owner described.
        SourceFailed: the image failed, ended early or changed while it was read.
        NotABlockDevice: the target isn't one.
        DeviceReadOnly: the kernel refuses writes to it.
        DeviceFailed: the target couldn't be opened, written, flushed, or gave back something else.
        ProgramFailed: qemu-img failed for another reason.
        ProgramTimedOut: qemu-img took too long.
        Cancelled: the caller wished so.
    """
    check_room(image, target, capacity)
    process.require(required_tools(image))
    started = time.monotonic()
    meter = Meter(sink, image.source.size, cancel)
    conversion = Conversion(limits=limits, spool_dir=spool_dir, meter=meter, cancel=cancel)
    with open_target(target, capacity=capacity, regular_file=regular_file, recording=verify) as opened:
        if image.engine is Engine.NATIVE:
            done = stream(image, opened, meter=meter, cancel=cancel)
        elif verify:
            with conversion.as_raw(image) as raw:
                check_room(raw, target, capacity)
                done = stream(raw, opened, meter=meter, cancel=cancel)
        else:
            driver = TargetDriver.PLAIN_FILE if regular_file else TargetDriver.BLOCK_DEVICE
            done = conversion.run(image, Place.of(opened.descriptor, opened.name), driver, capacity=capacity)
            opened.flush()
        if verify:
            opened.verify(cancel=cancel, moved=lambda count: meter.tick())
    return ImageWritten(
        format=image.format,
        bytes_read=done.read,
        bytes_written=done.size,
        bytes_zeroed=done.zeroed,
        proof=proof_of(image),
        seconds=time.monotonic() - started,
    )
