"""From an inspected image to an open target in one pass: read, digested, unpacked, decoded and written at once.

What is written in which order is nobody's business: the caller makes the target count only after this has returned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import ImageRefused, ImageTooLarge
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.decoding import Decoding
from libironic_disk.machine.images.inspection import InspectedImage
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.reading import ImageReading, image_read
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.images.sources.readahead import Leased
from libironic_disk.machine.images.target import Writable
from libironic_disk.machine.images.workers import Batch, Workers, Zero
from libironic_disk.pure.images.inspection import Proof
from libironic_disk.pure.images.qcow2 import Header
from libironic_disk.pure.images.qcow2_events import MetadataAccess, Raw
from libironic_disk.pure.images.qcow2_stream import STASH_BUDGET, Decoder
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB, align_up

_MOST_WORKERS: Final = 8
_ALLOWANCE: Final = 64 * MIB
# What waits on the image's own disk keeps off both ends of it: firmware must not find what it looks for there, as long
# as it isn't what was asked for.
_NEVER_LENT: Final = 2 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """How much an image was, in bytes.

    Attributes:
        read: what came from the source.
        size: how much of the target, from its start, holds the image now.
        written: how much of that was written as data.
        zeroed: how much of that was made zeros.
        proof: what shows that all of it came.
    """

    read: int
    size: int
    written: int
    zeroed: int
    proof: Proof


def stream(
    image: InspectedImage,
    target: Writable,
    *,
    meter: Meter,
    cancel: Cancellation | None,
    stash_budget: int = STASH_BUDGET,
    spill_start: int = 0,
    spill_end: int | None = None,
) -> Streamed:
    """Write a raw or qcow2 image, check that it was the right one, and wait until the target has it.

    Args:
        image: what inspection returned, of one of these formats.
        target: gets every byte of the image, its zeros too, in any order and from several threads.
        meter: told how far it is.
        cancel: ends what waits for a server; the meter asks it too.
        stash_budget: bytes of memory for what comes before the table that says where it belongs.
        spill_start: nothing before this byte of the target may be used for that, however small the image's disk is.
        spill_end: what is before this byte of the target may be used where that isn't enough: first what is behind the
            image, which is zeros afterwards, then what the image itself hasn't filled yet; None for all of the target,
            0 for nothing.

    Raises:
        ImageTooLarge: it has more than the target's capacity.
        ImageRefused, ImageDamaged, ImageOrderUnsupported: it turned out to be so.
        ChecksumMismatch: it isn't the one that its owner described.
        SourceFailed: it failed, changed or ended early.
        DeviceFailed: the target failed.
        Cancelled: the caller wished so.
    """
    with (
        Workers(target, image=image.name, count=_worker_count(), meter=meter) as workers,
        # A disk that fails is no affair of whoever sends the image, and mustn't wait for the next piece of it.
        image_read(image, meter=meter, cancel=cancel, tick=workers.check) as reading,
    ):
        spilled = ByteRange(0, 0)
        if image.header is None:
            size = _copy(reading, workers, target)
        else:
            size = image.header.virtual_size
            room = ByteRange(spill_start, target.capacity if spill_end is None else spill_end)
            tail = ByteRange(align_up(max(size, room.start), image.header.cluster_size), room.end)
            decoder = _decoder(image, image.header, stash_budget, room, tail)
            decoding = Decoding(decoder, reading.source, workers, target, tail_start=tail.start)
            decoding.run(_ending(reading))
            spilled = decoding.spilled
            workers.put(Zero(offset=spilled.start, length=spilled.size))
        workers.finish()
        reading.check()
    target.flush()
    meter.ended()
    zeroed = meter.zeroed - spilled.size
    return Streamed(read=meter.read, size=size, written=meter.written, zeroed=zeroed, proof=proof_of(image))


def check_length(image: InspectedImage, length: int) -> None:
    """Check that an image may have as many bytes, as far as the size of its disk is known.

    Raises:
        ImageRefused: it has more than tables and copies of all its disk take, and may well have no end.
    """
    if image.virtual_size is None:
        return
    limit = 2 * image.virtual_size + _ALLOWANCE
    if length > limit:
        reason = f"it goes on behind byte {limit}, more than twice the size of its disk"
        raise ImageRefused(image=image.name, reason=reason)


def proof_of(image: InspectedImage) -> Proof:
    """Return what shows that an image came whole, if it was read to its end without an error."""
    if image.checksum is not None:
        return Proof.CHECKSUM
    return Proof.NONE if image.source.size is None and image.compression is None else Proof.LENGTH


def _worker_count() -> int:
    return max(2, min(_MOST_WORKERS, len(os.sched_getaffinity(0))))


def _ending(reading: ImageReading) -> Iterator[Leased]:
    """Give the pieces of a qcow2 image; the size of its disk says nothing about where its file ends."""
    image = reading.image
    endless = image.source.size is None or image.compression is not None
    for leased in reading.pieces:
        if endless:
            check_length(image, leased.piece.end)
        yield leased


def _copy(reading: ImageReading, workers: Workers, target: Writable) -> int:
    """Write a raw image and return its size."""
    size = 0
    for piece, buffer in reading.pieces:
        if piece.end > target.capacity:
            raise ImageTooLarge(
                image=reading.image.name, target=target.name, wanted=piece.end, available=target.capacity
            )
        if isinstance(piece, Data):
            workers.put(Batch(items=(Raw(guest_offset=piece.offset, data=piece.data),), buffer=buffer))
        else:
            workers.put(Zero(offset=piece.offset, length=piece.length))
        size = piece.end
    return size


def _decoder(image: InspectedImage, header: Header, budget: int, room: ByteRange, tail: ByteRange) -> Decoder:
    # What is unpacked on the way has one order, and its length is known when it has ended.
    packed = image.compression is not None
    size = None if packed else image.source.size
    lent = ByteRange(max(room.start, _NEVER_LENT), min(room.end, header.virtual_size - _NEVER_LENT))
    return Decoder(
        header,
        image=image.name,
        size=size,
        budget=budget,
        tail=tail,
        # Where all of the file has room behind it, nothing need be remembered of what is lent.
        lent=ByteRange(0, 0) if size is not None and align_up(size, header.cluster_size) <= tail.size else lent,
        metadata=MetadataAccess.NEVER if packed else image.source.access,
    )
