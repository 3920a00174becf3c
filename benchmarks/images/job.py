"""What a side's process is asked for; the peer's environment lacks libironic_disk, and imports this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An image, the disk that it goes to, and the disk's bytes.

    ``source`` is a path or a URL. ``sha256`` is the value that the image must have, None to check nothing.
    """

    source: str
    sha256: str | None
    device: str
    capacity: int
