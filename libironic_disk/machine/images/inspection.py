"""Looking at an image before anything is written: which format, safe, and whole as far as its tables can tell.

The first bytes are looked at as they will be written: out of the compression around them. Of an image that can be read
in any order, all tables are checked; of the others, the decoder checks them as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.detection import PIECE, check_safe, signatures
from libironic_disk.machine.images.heads import first_bytes, unpacked
from libironic_disk.machine.images.opening import InspectableSource
from libironic_disk.machine.images.qemu_img import Place
from libironic_disk.machine.images.sources.file import LocalFile, OpenFile
from libironic_disk.pure.images import compression as packing
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.checksums import Checksum
from libironic_disk.pure.images.compression import Compression
from libironic_disk.pure.images.inspection import FOREIGN, Engine, ImageFormat, settle
from libironic_disk.pure.images.qcow2_tables import check_tables

_MADE_BY_INSPECTION: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedImage:
    """An image that was found to be safe to write; only inspection makes one.

    Attributes:
        format: what it is, inside of any compression.
        virtual_size: bytes that it fills on its target; None where that is known only at its end.
        source: where its bytes come from. What comes from a stream can be written once only.
        header: of a qcow2 image.
        compression: what is around it, None for nothing.
        checksum: what its bytes must have, as they come from the source.
        engine: what will write it.
    """

    format: ImageFormat
    virtual_size: int | None
    source: InspectableSource
    header: qcow2.Header | None
    compression: Compression | None
    checksum: Checksum | None
    engine: Engine
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_BY_INSPECTION:
            raise TypeError("an InspectedImage is made by inspect() only")

    @property
    def name(self) -> str:
        """What the image is called in messages; without credentials."""
        return self.source.name


def inspect_source(
    source: InspectableSource,
    *,
    declared: ImageFormat | None = None,
    checksum: Checksum | None = None,
    engine: Engine = Engine.NATIVE,
    cancel: Cancellation | None = None,
) -> InspectedImage:
    """Inspect an image wherever it is; it raises what ``images.inspect`` says."""
    head = first_bytes(source, cancel)
    compression = packing.detect(head)
    if compression is not None:
        head = unpacked(head, compression, image=source.name)
        if packing.detect(head) is not None:
            raise ImageRefused(image=source.name, reason="it is compressed twice; undo one of them")
    if not head:
        raise ImageRefused(image=source.name, reason="it is empty")
    found = settle(signatures(_cut(head), image=source.name), declared, image=source.name, engine=engine)
    header = qcow2.parse(head, image=source.name) if found is ImageFormat.QCOW2 else None
    size = None if compression is not None else source.size
    if header is not None:
        size = header.virtual_size
    if isinstance(source, LocalFile) and compression is None:
        size = _check_file(source, found, header, cancel) or size
    elif found in FOREIGN:
        size = None
    return InspectedImage(
        format=found,
        virtual_size=size,
        source=source,
        header=header,
        compression=compression,
        checksum=checksum,
        engine=engine,
        made_by=_MADE_BY_INSPECTION,
    )


def plain_raw(file: LocalFile) -> InspectedImage:
    """Take a file that this package made for a raw image, whatever its bytes look like."""
    return InspectedImage(
        format=ImageFormat.RAW,
        virtual_size=file.size,
        source=file,
        header=None,
        compression=None,
        checksum=None,
        engine=Engine.NATIVE,
        made_by=_MADE_BY_INSPECTION,
    )


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


def foreign_size(image_format: ImageFormat, file: LocalFile, opened: OpenFile) -> int:
    """Check that an open file of a foreign format is safe to be read by qemu-img, and ask how large its disk is.

    Raises:
        ImageRefused: it isn't safe.
        ToolMissing: qemu-img isn't installed.
        ProgramFailed: it can't read the image.
    """
    pieces = (opened.pread(offset, PIECE) for offset in range(0, file.size, PIECE))
    check_safe(pieces, image_format, image=file.name)
    process.require((qemu_img.TOOL,))
    return qemu_img.info(Place.of(opened.descriptor, file.name), image_format).virtual_size


def _check_file(
    file: LocalFile, found: ImageFormat, header: qcow2.Header | None, cancel: Cancellation | None
) -> int | None:
    """Check what can be checked of a whole file; return the size of its disk where only qemu-img knows it."""
    size = None
    with file.opened() as opened:
        if header is not None:
            check_file_tables(header, file, opened, cancel)
        elif found in FOREIGN:
            size = foreign_size(found, file, opened)
        opened.check_unchanged()
    return size


def _cut(head: bytes) -> Iterator[bytes]:
    return (head[start : start + PIECE] for start in range(0, len(head), PIECE))
