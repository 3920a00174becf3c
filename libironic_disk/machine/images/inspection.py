"""Looking at an image before anything is written: which format, safe, and whole as far as its tables can tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from itertools import chain
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.detection import PIECE, signatures
from libironic_disk.machine.images.sources.file import LocalFile, OpenFile
from libironic_disk.machine.images.sources.stream import StreamSource
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.inspection import ImageFormat, settle
from libironic_disk.pure.images.qcow2_tables import check_tables

_MADE_BY_INSPECTION: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedImage:
    """An image that was found to be safe to write; only inspection makes one.

    Attributes:
        format: RAW or QCOW2.
        virtual_size: bytes that it fills on its target; None for a raw stream of unknown length.
        source: where its bytes come from. What comes from a stream can be written once only.
        header: of a qcow2 image.
    """

    format: ImageFormat
    virtual_size: int | None
    source: LocalFile | StreamSource
    header: qcow2.Header | None
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_BY_INSPECTION:
            raise TypeError("an InspectedImage is made by inspect() only")

    @property
    def name(self) -> str:
        """What the image is called in messages; without credentials."""
        return self.source.name


def inspect_file(file: LocalFile, declared: ImageFormat | None, cancel: Cancellation | None) -> InspectedImage:
    """Inspect a file, a qcow2 image down to its last table; it raises what ``images.inspect`` says."""
    with file.opened() as opened:
        pieces = (opened.pread(offset, PIECE) for offset in range(0, file.size, PIECE))
        found = _format(pieces, declared, file.name)
        header = None
        if found is ImageFormat.QCOW2:
            first = opened.pread(0, PIECE)
            header = qcow2.parse(opened.pread(0, qcow2.bytes_needed(first)), image=file.name)
            check_file_tables(header, file, opened, cancel)
        opened.check_unchanged()
    return _inspected(file, found, header)


def inspect_stream(stream: StreamSource, declared: ImageFormat | None) -> InspectedImage:
    """Inspect the first bytes of a stream, which keeps them; it raises what ``images.inspect`` says."""
    found = _format(iter(lambda: stream.peek(PIECE), b""), declared, stream.name)
    header = None
    if found is ImageFormat.QCOW2:
        while len(stream.head) < qcow2.bytes_needed(stream.head) and stream.peek(PIECE):
            pass
        header = qcow2.parse(stream.head, image=stream.name)
    return _inspected(stream, found, header)


def check_file_tables(header: qcow2.Header, file: LocalFile, opened: OpenFile, cancel: Cancellation | None) -> None:
    """Check every table of a qcow2 image in an open file.

    Raises:
        ImageRefused: it is truncated or damaged.
        SourceFailed: it can't be read.
        Cancelled: the caller wished so.
    """

    def read(offset: int, length: int) -> bytes:
        if cancel is not None:
            cancel.check("image inspection")
        return opened.pread(offset, length)

    check_tables(header, read, file.size, image=file.name)


def _format(pieces: Iterator[bytes], declared: ImageFormat | None, image: str) -> ImageFormat:
    first = next(pieces, b"")
    if not first:
        raise ImageRefused(image=image, reason="it is empty")
    return settle(signatures(chain((first,), pieces), image=image), declared, image=image)


def _inspected(
    source: LocalFile | StreamSource, image_format: ImageFormat, header: qcow2.Header | None
) -> InspectedImage:
    return InspectedImage(
        format=image_format,
        virtual_size=source.size if header is None else header.virtual_size,
        source=source,
        header=header,
        made_by=_MADE_BY_INSPECTION,
    )
