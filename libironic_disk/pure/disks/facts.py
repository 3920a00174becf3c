"""What was seen of a disk: values that observing makes and planning reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.tables.model import FoundTable
from libironic_disk.units import in_words


class DiskKind(StrEnum):
    """What the path of a disk names."""

    BLOCK_DEVICE = "block device"
    PLAIN_FILE = "plain file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Sizes that the kernel reports for a disk, in bytes (Documentation/ABI/stable/sysfs-block).

    ``sector_size`` is the logical one, in which tables count. ``optimal_io`` is 0 where the disk doesn't say.
    """

    sector_size: int
    physical_sector_size: int
    optimal_io: int = 0
    alignment_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells one disk from another; empty where the disk or the kernel doesn't say.

    ``sequence`` is the kernel's diskseq, which no two disks share from one boot to the next.
    """

    model: str = ""
    serial: str = ""
    wwn: str = ""
    sequence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A superblock or another mark by which something would be recognised.

    ``offset`` is where its magic lies, in bytes from the start of the disk; ``partition`` is the number of the
    partition that holds it, or 0 for the disk itself.
    """

    kind: str
    offset: int
    partition: int = 0
    label: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        where = f"partition {self.partition}" if self.partition else "the disk"
        label = f" labelled {self.label!r}" if self.label else ""
        return f"{self.kind}{label} on {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What has to be the same when a plan is applied."""

    size: int
    sector_size: int
    identity: Identity
    tables: str
    signatures: str

    def differences(self, now: Fingerprint) -> tuple[str, ...]:
        """Return, in words, what changed from this fingerprint to ``now``."""
        return tuple(self._differences(now))

    def _differences(self, now: Fingerprint) -> Iterator[str]:
        if now.size != self.size:
            yield f"it had {in_words(self.size)} and has {in_words(now.size)}"
        if now.sector_size != self.sector_size:
            yield f"its sectors had {self.sector_size} bytes and have {now.sector_size}"
        proven = False
        for word in ("model", "serial", "wwn"):
            before, after = getattr(self.identity, word), getattr(now.identity, word)
            # udev may have learnt it, or forgotten it, in between.
            if before and after and before != after:
                yield f"its {word} was {before} and is {after}"
            proven = proven or (word != "model" and bool(before) and before == after)
        # A serial number or WWN outlives a reboot, the kernel's sequence number doesn't.
        if not proven and self.identity.sequence != now.identity.sequence:
            yield "it was detached and another disk took its name"
        if now.tables != self.tables:
            yield "its partition table is another one"
        if now.signatures != self.signatures:
            yield "other file systems or volumes are on it"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """A disk as it was seen at one moment.

    ``table_digest`` is the SHA-256 of every byte range in which partition tables live.
    """

    path: str
    kind: DiskKind
    size: int
    topology: Topology
    read_only: bool
    identity: Identity
    table: FoundTable | None
    signatures: tuple[Signature, ...]
    table_digest: str

    def signatures_of(self, partition: int) -> tuple[Signature, ...]:
        """Return what was found in one partition."""
        return tuple(found for found in self.signatures if found.partition == partition)

    @property
    def fingerprint(self) -> Fingerprint:
        """What a plan remembers of the disk."""
        listed = "\n".join(f"{s.partition} {s.offset} {s.kind} {s.uuid} {s.label}" for s in self.signatures)
        return Fingerprint(
            size=self.size,
            sector_size=self.topology.sector_size,
            identity=self.identity,
            tables=self.table_digest,
            signatures=hashlib.sha256(listed.encode()).hexdigest(),
        )
