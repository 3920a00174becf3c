"""Images that qemu-img decodes: other formats than ours, and whatever its owner wants decoded so.

It is told the format and never finds it out; it reads a descriptor of ours and never a path. It can't read a stream,
so what isn't a plain file is kept in an anonymous temporary one first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from libironic_disk.errors import ImageTooLarge, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import scratch
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.inspection import InspectedImage, check_file_tables, foreign_size, plain_raw
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.qemu_img import Place, QemuLimits, TargetDriver
from libironic_disk.machine.images.reading import image_read
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.images.sources.file import LocalFile, OpenFile, local_file
from libironic_disk.machine.images.streaming import Streamed, check_length, proof_of
from libironic_disk.pure.images.inspection import FOREIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How qemu-img is to be run.

    Attributes:
        limits: what it may use.
        spool_dir: where an image is kept that isn't a plain file; None for the system's directory.
        meter: told how far it is.
        cancel: asked all the time.
    """

    limits: QemuLimits
    spool_dir: Path | None
    meter: Meter
    cancel: Cancellation | None

    def run(self, image: InspectedImage, target: Place, driver: TargetDriver, *, capacity: int) -> Streamed:
        """Write an image to a target that exists, and check that it was the right one.

        Args:
            image: the image.
            target: what gets it.
            driver: what that is.
            capacity: how many bytes it has.

        Raises:
            ImageTooLarge: it has more than ``capacity`` bytes; nothing was written.
            ImageRefused, ImageDamaged: it turned out to be so.
            ChecksumMismatch: it isn't the one that its owner described.
            SourceFailed: it failed, changed, or can't be kept.
            DeviceFailed: the target failed.
            ProgramFailed, ProgramTimedOut: qemu-img.
            Cancelled: the caller wished so.
        """
        with self._as_file(image) as file, file.opened() as opened:
            size = _disk_size(image, file, opened)
            if size > capacity:
                raise ImageTooLarge(image=image.name, target=target.name, wanted=size, available=capacity)
            self._convert(image, file, opened, target, driver, counted=size)
        return Streamed(read=self.meter.read, size=size, written=size, zeroed=0, proof=proof_of(image))

    @contextmanager
    def as_raw(self, image: InspectedImage) -> Iterator[InspectedImage]:
        """Give the same as a raw image in an anonymous temporary file, for as long as the ``with`` lasts.

        Raises:
            DiskError: what :meth:`run` raises.
        """
        with self._as_file(image) as file, file.opened() as opened, self._temporary(image) as spool:
            size = _disk_size(image, file, opened)
            try:
                spool.truncate(size)
            except OSError as error:
                raise self._no_room(image, error) from error
            target = Place.of(spool.fileno(), image.name)
            self._convert(image, file, opened, target, TargetDriver.PLAIN_FILE, counted=0)
            yield plain_raw(local_file(_path_of(spool), name=image.name))

    def _convert(
        self,
        image: InspectedImage,
        file: LocalFile,
        opened: OpenFile,
        target: Place,
        driver: TargetDriver,
        *,
        counted: int,
    ) -> None:
        """Run qemu-img; of what it writes at most ``counted`` bytes are counted, none of a copy."""

        def moved(read: int, written: int) -> None:
            self.meter.read_until(min(read, file.size))
            self.meter.written = min(written, counted)
            self.meter.tick()

        qemu_img.convert(
            Place.of(opened.descriptor, file.name),
            image.format,
            target,
            driver,
            limits=self.limits,
            moved=moved,
            cancel=self.cancel,
        )
        opened.check_unchanged()
        self.meter.read_until(file.size)
        self.meter.source_ended()
        self.meter.written = counted
        self.meter.ended()

    @contextmanager
    def _as_file(self, image: InspectedImage) -> Iterator[LocalFile]:
        """Give a plain file with an image's unpacked bytes, for as long as the ``with`` lasts."""
        if isinstance(image.source, LocalFile) and image.compression is None and image.checksum is None:
            yield image.source
            return
        with self._temporary(image) as spool:
            self._keep(image, spool)
            file = local_file(_path_of(spool), name=image.name)
            if image.header is not None:
                with file.opened() as opened:
                    check_file_tables(image.header, file, opened, self.cancel)
            yield file

    @contextmanager
    def _temporary(self, image: InspectedImage) -> Iterator[FileIO]:
        with ExitStack() as stack:
            try:
                spool = stack.enter_context(tempfile.TemporaryFile(dir=self.spool_dir, buffering=0))
            except OSError as error:
                raise self._no_room(image, error) from error
            yield spool

    def _keep(self, image: InspectedImage, spool: FileIO) -> None:
        with image_read(image, meter=self.meter, cancel=self.cancel) as reading:
            for piece, buffer in reading.pieces:
                check_length(image, piece.end)
                try:
                    _append(spool, piece.data if isinstance(piece, Data) else None, piece.end)
                except OSError as error:
                    raise self._no_room(image, error) from error
                if buffer is not None:
                    buffer.release()
            reading.check()
        self.meter.source_ended()

    def _no_room(self, image: InspectedImage, error: OSError) -> SourceFailed:
        place = scratch.place(self.spool_dir)
        return SourceFailed(source=image.name, reason=f"it can't be kept in {place}: {error.strerror or error}")


def _disk_size(image: InspectedImage, file: LocalFile, opened: OpenFile) -> int:
    """Return how many bytes an image in a plain file fills; one that only now is in one is checked first."""
    if image.virtual_size is not None:
        return image.virtual_size
    return foreign_size(image.format, file, opened) if image.format in FOREIGN else file.size


def _path_of(file: FileIO) -> Path:
    return Path(f"/proc/self/fd/{file.fileno()}")


def _append(spool: FileIO, data: memoryview | None, end: int) -> None:
    if data is None:
        spool.truncate(end)
        spool.seek(end)
        return
    while data:
        data = data[spool.write(data) :]
