"""The simplest driver of the qcow2 decoder: one thread, everything in memory, and it counts what it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2_events import Compressed, Event, MetadataAccess, Raw, Recall, Spill, WantMetadata
from libironic_disk.pure.images.qcow2_events import Zeros as ZeroRange
from libironic_disk.pure.images.qcow2_inflate import inflate
from libironic_disk.pure.images.qcow2_stream import STASH_BUDGET, Decoder
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB

OLD = 0xAA
"""What the target is full of beforehand: a byte that nobody wrote shows."""


@dataclass(kw_only=True)
class Decoded:
    """A decoded disk, and what that took."""

    buffer: bytearray
    written: bytearray
    """One byte for each of the disk's: whether it was given."""
    spilled: dict[int, bytes] = field(default_factory=dict)
    lent: int = 0
    """How often something waited on the disk itself."""
    requests: int = 0
    most_stashed: int = 0

    @property
    def guest(self) -> bytes:
        """What is on the disk."""
        return bytes(self.buffer)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How the decoder is run."""

    metadata: MetadataAccess = MetadataAccess.NEVER
    budget: int = STASH_BUDGET
    spill: bool = False
    """Whether there is room for all that waits behind the disk."""
    lend: bool = False
    """Whether it may wait on the disk itself, all of it but its first and its last KiB."""
    knows_size: bool = True


def chunks_of(file: bytes, sizes: Iterable[int]) -> Iterator[memoryview]:
    """Cut a file into pieces of these sizes, the last of which is the rest; each is gone when the next is asked for."""
    start = 0
    for size in [*sizes, len(file)]:
        buffer = bytearray(file[start : start + size])
        yield memoryview(buffer)
        start += len(buffer)
        # A buffer that is used again.
        buffer[:] = bytes([OLD]) * len(buffer)


def decode(file: bytes, mode: Mode, sizes: Iterable[int] = (), later: bytes | None = None) -> Decoded:
    """Decode a whole file.

    Args:
        file: as it comes by.
        mode: how.
        sizes: of the pieces that it comes in.
        later: the file as it is when it is read out of order.
    """
    header = qcow2.parse(file[: qcow2.bytes_needed(file)], image="test")
    decoder = Decoder(
        header,
        image="test",
        size=len(file) if mode.knows_size else None,
        budget=mode.budget,
        tail=ByteRange(1 << 50, (1 << 51) * mode.spill),
        lent=ByteRange(KIB, (header.virtual_size - KIB) * mode.lend),
        metadata=mode.metadata,
    )
    decoded = Decoded(buffer=bytearray([OLD]) * header.virtual_size, written=bytearray(header.virtual_size))
    for chunk in chunks_of(file, sizes):
        for event in decoder.push(chunk):
            _carry_out(event, decoder, decoded, later or file)
        decoded.most_stashed = max(decoded.most_stashed, decoder.stashed)
    for event in decoder.finish():
        _carry_out(event, decoder, decoded, later or file)
    assert 0 not in decoded.written, "a byte of the disk was never given"
    return decoded


def _carry_out(event: Event, decoder: Decoder, decoded: Decoded, file: bytes) -> None:
    match event:
        case Raw(guest_offset=at, data=data):
            _write(decoded, at, data)
        case Compressed(guest_offset=at, length=length):
            unpacked = bytes(inflate(event, image="test"))
            assert len(unpacked) == length
            _write(decoded, at, unpacked)
        case ZeroRange(guest_offset=at, length=length):
            _write(decoded, at, bytes(length))
        case WantMetadata(ranges=ranges):
            decoded.requests += len(ranges)
            for offset, length in ranges:
                decoder.give_metadata(offset, file[offset : offset + length])
        case Spill(place=at, data=data):
            if at < len(decoded.buffer):
                assert KIB <= at <= at + len(data) <= len(decoded.buffer) - KIB
                assert not any(decoded.written[at : at + len(data)]), "spilled onto what the disk shall be"
                decoded.buffer[at : at + len(data)] = data
                decoded.lent += 1
                return
            assert at not in decoded.spilled
            decoded.spilled[at] = data
        case Recall(place=at, length=length):
            decoder.give_spilled(_recalled(decoded, at, length))


def _recalled(decoded: Decoded, at: int, length: int) -> bytes:
    if at < len(decoded.buffer):
        assert not any(decoded.written[at : at + length]), "recalled what has become the disk's"
        return bytes(decoded.buffer[at : at + length])
    kept = bytearray()
    while len(kept) < length:
        kept += decoded.spilled[at + len(kept)]
    return bytes(kept[:length])


def _write(decoded: Decoded, at: int, data: bytes | memoryview) -> None:
    assert data
    assert at >= 0
    assert at + len(data) <= len(decoded.buffer)
    decoded.buffer[at : at + len(data)] = data
    assert decoded.written.find(1, at, at + len(data)) < 0, "a byte of the disk was given twice"
    decoded.written[at : at + len(data)] = b"\1" * len(data)
