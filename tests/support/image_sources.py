"""One image in all the ways in which somebody may have it."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from io import FileIO
from pathlib import Path

from libironic_disk.images import ImageSource
from libironic_disk.units import KIB
from tests.support.badserver import ImageServer
from tests.support.webserver import WebServer


class Way(StrEnum):
    """A way to have an image."""

    FILE = "file"
    PARTS = "server that gives parts"
    NO_PARTS = "server that gives no parts"
    PIPE = "pipe"
    ITERATOR = "iterator"


STREAMS = (Way.PIPE, Way.ITERATOR)


@contextmanager
def offered(way: Way, image: Path, server: WebServer) -> Iterator[ImageSource]:
    """Give an image as a caller has it who has it in this way."""
    match way:
        case Way.FILE:
            yield image
        case Way.PARTS | Way.NO_PARTS:
            yield ImageServer(server=server, body=image.read_bytes(), parts=way is Way.PARTS).url
        case Way.PIPE:
            with piped(image.read_bytes()) as pipe:
                yield pipe
        case Way.ITERATOR:
            yield in_pieces(image.read_bytes())


@contextmanager
def piped(data: bytes) -> Iterator[FileIO]:
    """Give the end of a pipe that a thread writes to until everything is read or nobody reads any more."""
    out, into = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), FileIO(into, "w") as file:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        with FileIO(out) as pipe:
            yield pipe
    finally:
        thread.join()


def in_pieces(data: bytes, seed: int = 1) -> Iterator[bytes]:
    """Give some bytes in pieces of any size, of which some are empty."""
    chance = random.Random(seed)
    start = 0
    while start < len(data):
        length = chance.choice([0, 1, 511, chance.randrange(300 * KIB), 3000 * KIB])
        yield data[start : start + length]
        start += length
