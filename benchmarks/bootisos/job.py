"""What our process is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The ISO to patch, and the file that is written; nothing is written if that is empty."""

    source: str
    destination: str
