"""Where images come from. A source is read once, from its start to its end, as a row of pieces.

Pieces are what flows from a source, through a decoder, to the workers; an image whose format is raw needs no decoder,
as its pieces are already where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from libironic_disk.events import Cancellation
from libironic_disk.pure.images.checksums import LiveDigest
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.pure.ranges import ByteRange

Delivered = Callable[[int], LiveDigest]
"""Returns the digest of exactly the first n bytes that a source gave, which nobody updates any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Bytes and where they belong. ``data`` is borrowed: it is overwritten once the next piece was asked for."""

    offset: int
    data: memoryview

    @property
    def end(self) -> int:
        """The first byte behind the piece."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """A range that reads as zeros and was found without reading it."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte behind the piece."""
        return self.offset + self.length


Piece = Data | Zeros


class OpenSource(Protocol):
    """A source while it is read."""

    def fill(self, buffer: memoryview) -> Piece | None:
        """Return the next piece, its bytes in ``buffer``; None at the end, once the source is known to have been whole.

        Raises:
            SourceFailed: it couldn't be read, changed meanwhile, or ended too early.
        """

    def stop(self) -> None:
        """Let a filling that waits end soon, where that is possible; from any thread."""

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, fewer of one that reaches over the end; from any thread.

        Raises:
            SourceFailed: they can't be had, or the source has only one order; ``Source.access`` says that beforehand.
        """


class Source(Protocol):
    """A source that can be opened."""

    @property
    def name(self) -> str:
        """What it is called in errors; without credentials."""

    @property
    def size(self) -> int | None:
        """Its bytes, None where nobody knows beforehand."""

    @property
    def access(self) -> MetadataAccess:
        """When parts of it can be read out of order."""

    def opened(
        self, *, cancel: Cancellation | None = None, delivered: Delivered | None = None
    ) -> AbstractContextManager[OpenSource]:
        """Open it for one reading from the start.

        Args:
            cancel: ends what waits, where that is possible.
            delivered: asked by a source that has to begin anew, from the thread that reads.
        """
