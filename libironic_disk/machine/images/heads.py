"""The first bytes of an image, wherever it is: as its source gives them, and out of the compression around them."""

from __future__ import annotations

import threading
from typing import Final

from libironic_disk.events import Cancellation
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.machine.images.http_source import HttpImage
from libironic_disk.machine.images.opening import InspectableSource
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.machine.images.sources.stream import StreamSource
from libironic_disk.pure.images.compression import Compression, Decompressor

_TICK_SECONDS: Final = 0.1


def first_bytes(source: InspectableSource, cancel: Cancellation | None = None) -> bytes:
    """Return the first bytes that a source gives, :data:`HEAD` of them unless it has fewer.

    Those of a stream stay with it, for the one reading to come; those of an HTTP image were read when it was opened.

    Raises:
        SourceFailed: they can't be read, or aren't those any more of the file that was opened.
        Cancelled: the caller wished so. Who waits for a stream of the caller's is left waiting, and does nothing more.
    """
    match source:
        case LocalFile():
            with source.opened() as opened:
                return opened.pread(0, HEAD)
        case HttpImage():
            return source.head[:HEAD]
    if cancel is None:
        _peek(source)
    else:
        _peek_until_cancelled(source, cancel)
    return source.head


def _peek(source: StreamSource) -> None:
    missing = HEAD - len(source.head)
    while missing and (piece := source.peek(missing)):
        missing -= len(piece)


def _peek_until_cancelled(source: StreamSource, cancel: Cancellation) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _peek(source)
        except BaseException as error:
            failures.append(error)

    # Nobody but its owner can end the reading of a stream, so another thread than the caller's has to wait for it.
    thread = threading.Thread(target=run, name="libironic_disk-peek", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_TICK_SECONDS)
        cancel.check("image inspection")
    for failure in failures:
        raise failure


def unpacked(head: bytes, compression: Compression, *, image: str) -> bytes:
    """Return what the first bytes of a compressed image unpack to, at most :data:`HEAD` of it.

    Raises:
        ImageDamaged: they are wrong, or are all there is and end too early.
        ImageRefused: unpacking them takes too much memory.
    """
    decompressor = Decompressor(compression, image=image)
    decompressor.push(head)
    found = bytearray()
    while len(found) < HEAD and (piece := decompressor.pull(HEAD - len(found))):
        found += piece
    if len(head) < HEAD and len(found) < HEAD:
        decompressor.finish()
    return bytes(found)
