"""From an inspected image to an open target: raw images by our own pipeline, qcow2 images by qemu-img."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from libironic_disk.errors import ImageRefused, ImageTooLarge, SourceFailed
from libironic_disk.events import BytesMoved, Cancellation, EventSink, Phase
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.inspection import check_file_tables
from libironic_disk.machine.images.qemu_img import Place, QemuLimits, TargetDriver
from libironic_disk.machine.images.sources import Data, Source
from libironic_disk.machine.images.sources.file import LocalFile, local_file
from libironic_disk.machine.images.sources.readahead import reading_ahead
from libironic_disk.machine.images.sources.stream import StreamSource
from libironic_disk.machine.images.writer import TargetWriter
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.pure.images.qcow2 import Header
from libironic_disk.units import MIB

_EVENT_INTERVAL_SECONDS: Final = 0.1
_SPOOL_ALLOWANCE: Final = 64 * MIB


class Meter:
    """Tells a sink how far the work is, about ten times a second at most and once at the end."""

    def __init__(self, sink: EventSink, total: int | None) -> None:
        self._sink = sink
        self._total = total
        self._next = 0.0
        self._done = 0

    def moved(self, done: int, written: int) -> None:
        """Report how many bytes were read and written so far, unless that was just done."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVENT_INTERVAL_SECONDS
            self.ended(done, written)

    def ended(self, done: int, written: int) -> None:
        """Report the same for the last time."""
        # A stream that was kept in a file has been read, however much of that file is yet to be decoded.
        self._done = max(self._done, done)
        self._sink(BytesMoved(phase=Phase.IMAGE, done=self._done, written=written, total=self._total))


def write_raw(source: Source, writer: TargetWriter, *, meter: Meter, cancel: Cancellation | None) -> int:
    """Write a raw image and return its bytes.

    Raises:
        ImageTooLarge: a source of unknown size passed the target's capacity.
        SourceFailed: the source failed, changed or ended early.
        DeviceFailed: the target failed.
        Cancelled: the caller wished so.
    """
    position = 0
    with source.opened() as opened, reading_ahead(opened, cancel=cancel) as pieces:
        for piece in pieces:
            if piece.end > writer.capacity:
                raise ImageTooLarge(image=source.name, target=writer.name, wanted=piece.end, available=writer.capacity)
            writer.put(piece)
            position = piece.end
            meter.moved(position, position)
    meter.ended(position, position)
    return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How qemu-img is to be run."""

    driver: TargetDriver
    limits: QemuLimits
    meter: Meter
    cancel: Cancellation | None

    def run(self, file: LocalFile, header: Header, writer: TargetWriter) -> int:
        """Write a qcow2 image and return the bytes of its file.

        Raises:
            SourceFailed: the file failed, or changed since it was inspected.
            DeviceFailed: the target failed.
            ProgramFailed, ProgramTimedOut: qemu-img.
            Cancelled: the caller wished so.
        """

        def moved(read: int, written: int) -> None:
            self.meter.moved(min(read, file.size), min(written, header.virtual_size))

        with file.opened() as opened:
            qemu_img.convert(
                Place.of(opened.descriptor, file.name),
                ImageFormat.QCOW2,
                Place.of(writer.descriptor, writer.name),
                self.driver,
                limits=self.limits,
                moved=moved,
                cancel=self.cancel,
            )
            opened.check_unchanged()
        self.meter.ended(file.size, header.virtual_size)
        return file.size


@contextmanager
def spooled(
    stream: StreamSource, header: Header, directory: Path | None, *, meter: Meter, cancel: Cancellation | None
) -> Iterator[LocalFile]:
    """Keep a qcow2 stream in an anonymous file, checked like any other, for as long as the ``with`` lasts.

    Raises:
        ImageRefused: it is damaged, or more than twice as long as its disk.
        SourceFailed: the stream failed or ended early, or there is no room for it.
        Cancelled: the caller wished so.
    """
    limit = 2 * header.virtual_size + _SPOOL_ALLOWANCE
    with ExitStack() as stack:
        try:
            spool = stack.enter_context(tempfile.TemporaryFile(dir=directory, buffering=0))
            _keep(stream, spool, limit, meter, cancel)
        except OSError as error:
            place = directory or tempfile.gettempdir()
            reason = f"it can't be kept in {place}: {error.strerror or error}"
            raise SourceFailed(source=stream.name, reason=reason) from error
        file = local_file(Path(f"/proc/self/fd/{spool.fileno()}"), name=stream.name)
        with file.opened() as opened:
            check_file_tables(header, file, opened, cancel)
        yield file


def _keep(stream: StreamSource, spool: FileIO, limit: int, meter: Meter, cancel: Cancellation | None) -> None:
    with stream.opened() as opened, reading_ahead(opened, cancel=cancel) as pieces:
        for piece in pieces:
            if piece.end > limit:
                reason = f"it goes on behind byte {limit}, more than twice the size of its disk"
                raise ImageRefused(image=stream.name, reason=reason)
            left = piece.data if isinstance(piece, Data) else memoryview(b"")
            while left:
                left = left[spool.write(left) :]
            meter.moved(piece.end, 0)
