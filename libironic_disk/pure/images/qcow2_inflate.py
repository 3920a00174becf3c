"""Compressed clusters of qcow2 images, undone one by one: they know nothing of each other, so threads may share them.

Source: QEMU, docs/interop/qcow2.rst, section "Compressed Clusters Descriptor". A payload ends with its sector, so what
is behind its real end may belong to the next cluster and is passed over.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol, cast

import zstandard

from libironic_disk.errors import ImageDamaged
from libironic_disk.pure.images.qcow2 import Compression
from libironic_disk.pure.images.qcow2_events import Compressed
from libironic_disk.pure.images.zstdframe import WindowTooLarge, ZstdFrame
from libironic_disk.units import MIB

# QEMU itself uses a window of 4 KiB; to allow the largest costs nothing.
_WINDOW_BITS: Final = -zlib.MAX_WBITS
# No frame needs a larger window than what it unpacks to, 2 MiB at most.
_ZSTD_WINDOW: Final = 8 * MIB
# One is usual. Each costs a copy of what follows it, so thousands of empty ones would never end.
_MOST_FRAMES: Final = 16


class Inflater:
    """Unpacks clusters of one image, one after the other; each thread has its own.

    Args:
        image: its name in errors.
    """

    def __init__(self, image: str) -> None:
        self._image = image
        # To make one for each cluster costs a tenth of the time that unpacking takes.
        self._zstd = zstandard.ZstdDecompressor()

    def inflate(self, cluster: Compressed) -> bytes | bytearray:
        """Return the cluster's bytes, ``length`` of them; other threads run meanwhile.

        Raises:
            ImageDamaged: its payload doesn't unpack to a whole cluster.
        """
        undo = _inflate_at_once() if cluster.kind is Compression.ZLIB else self._unzstd
        return _undone(cluster, self._image, undo)[0]

    def _unzstd(self, payload: memoryview, size: int) -> _Unpacked:
        # The size that the frame claims is reserved before a byte is unpacked, whatever it is.
        if zstandard.get_frame_parameters(payload).content_size != size:
            return _unpack_frames(payload, size)
        return self._zstd.decompress(payload, max_output_size=size, allow_extra_data=True), len(payload)


def inflate(cluster: Compressed, *, image: str) -> bytes | bytearray:
    """Return one cluster's bytes; see :meth:`Inflater.inflate`."""
    return Inflater(image).inflate(cluster)


def measure(cluster: Compressed, *, image: str) -> tuple[bytes | bytearray, int]:
    """Return what :meth:`Inflater.inflate` does, and how many bytes of the payload that took.

    Raises:
        ImageDamaged: its payload doesn't unpack to a whole cluster.
    """
    return _undone(cluster, image, _inflate if cluster.kind is Compression.ZLIB else _unpack_frames)


_Unpacked = tuple[bytes | bytearray, int]
"""What a payload unpacks to, and how many of its bytes that took."""

_Undo = Callable[[memoryview, int], _Unpacked]


def _undone(cluster: Compressed, image: str, undo: _Undo) -> _Unpacked:
    try:
        unpacked, taken = undo(cluster.payload, cluster.cluster_size)
    except (zlib.error, _isal_error(), zstandard.ZstdError, ValueError, WindowTooLarge) as error:
        raise _damaged(cluster, image, str(error) or "its window is too large") from error
    if len(unpacked) != cluster.cluster_size:
        raise _damaged(cluster, image, f"it ends after {len(unpacked)} bytes")
    if cluster.cut and cluster.kind is Compression.ZLIB and not _ends(cluster.payload, cluster.cluster_size):
        raise _damaged(cluster, image, "the file ends before it does")
    return (unpacked if cluster.length == len(unpacked) else unpacked[: cluster.length]), taken


def _damaged(cluster: Compressed, image: str, reason: str) -> ImageDamaged:
    reason = f"its compressed cluster there can't be unpacked ({reason})"
    return ImageDamaged(image=image, reason=reason, offset=cluster.host_offset)


@cache
def _inflate_at_once() -> _Undo:
    try:
        from deflate import DeflateError, deflate_decompress
    except ImportError:  # it is built for the most common machines alone, and takes two thirds of isal's time there
        return _inflate

    def undo(payload: memoryview, size: int) -> _Unpacked:
        try:
            return deflate_decompress(payload, size), len(payload)
        except DeflateError:
            # It wants a stream's end, which a payload that gives a whole cluster may lack.
            return _inflate(payload, size)

    return undo


def _inflate(payload: memoryview, size: int) -> _Unpacked:
    stream = _new_stream()(_WINDOW_BITS)
    unpacked = stream.decompress(payload, size)
    rest = stream.unconsumed_tail
    # The end of the stream may be all that is left of it.
    if not stream.eof and rest and not stream.decompress(rest, 1) and stream.eof:
        rest = b""
    return unpacked, len(payload) - len(stream.unused_data or rest)


def _ends(payload: memoryview, size: int) -> bool:
    """Whether a payload has the end of a stream behind ``size`` bytes; it is known to give as many."""
    stream = zlib.decompressobj(_WINDOW_BITS)
    stream.decompress(payload, size)
    return stream.eof or (not stream.decompress(stream.unconsumed_tail, 1) and stream.eof)


def _unpack_frames(payload: memoryview, size: int) -> _Unpacked:
    """Unpack the frames, of which there may be several, until they gave a cluster; the last must end with it."""
    unpacked = bytearray()
    rest = payload
    for _ in range(_MOST_FRAMES):
        if not rest or len(unpacked) == size:
            break
        frame = ZstdFrame(_ZSTD_WINDOW)
        data = rest
        while not frame.eof:
            piece = frame.decompress(data, size + 1 - len(unpacked))
            data = memoryview(b"")
            unpacked += piece
            if len(unpacked) > size or not (piece or frame.eof):
                raise ValueError("its frame doesn't end with the cluster")
        rest = memoryview(frame.unused_data)
    return bytes(unpacked), len(payload) - len(rest)


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


@cache
def _new_stream() -> Callable[[int], _Stream]:
    try:
        from isal import isal_zlib
    except ImportError:  # it is built for the most common machines alone, and half as fast again there
        return zlib.decompressobj
    return isal_zlib.decompressobj


@cache
def _isal_error() -> type[Exception]:
    try:
        from isal.igzip_lib import IsalError
    except ImportError:
        return zlib.error
    return cast("type[Exception]", IsalError)
