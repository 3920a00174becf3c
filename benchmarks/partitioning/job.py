"""What both sides are asked for; the peer's environment lacks libironic_disk, and imports this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The disk to work on and what goes onto it, in MiB; the partitions follow each other in this order."""

    device: str
    esp: int
    ephemeral: int
    swap: int
    config_drive: int
    root: int
