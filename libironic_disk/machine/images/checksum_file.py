"""An image's checksum from wherever its owner put it: a value, a checksum file, or one on a web server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libironic_disk.errors import ChecksumInvalid
from libironic_disk.events import Cancellation
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import IMAGE_POLICY, fetch
from libironic_disk.machine.images.sources.file import local_file
from libironic_disk.pure.images.checksums import Algorithm, Checksum, find_checksum
from libironic_disk.units import MIB, in_words

LIMIT: Final = MIB
"""How long a checksum file may be."""


def checksum_from(
    source: Path | Location,
    *,
    name: str,
    algorithm: Algorithm | None = None,
    policy: HttpPolicy = IMAGE_POLICY,
    cancel: Cancellation | None = None,
) -> Checksum:
    """Read a checksum file and find an image's checksum in it.

    Args:
        source: the checksum file.
        name: the image's name or path as the file has it: of an image on a server, its location's ``file_name``.
        algorithm: the only one that counts; None for the strongest that the file has.
        policy: how patient to be with a server.
        cancel: asked all the time.

    Raises:
        ChecksumInvalid: it is too long, or doesn't name one checksum for the image.
        ImageRefused: the path isn't a regular file.
        SourceFailed: it can't be read.
        Cancelled: the caller wished so.
    """
    if isinstance(source, Path):
        file = local_file(source)
        with file.opened() as opened:
            called, text = file.name, opened.pread(0, LIMIT + 1)
    else:
        called = source.name
        text = fetch(source, limit=LIMIT, policy=policy, cancel=cancel)
    if len(text) > LIMIT:
        raise ChecksumInvalid(source=called, reason=f"it has more than {in_words(LIMIT)}")
    return find_checksum(text.decode(errors="replace"), name=name, source=called, algorithm=algorithm)
