"""What a seed decides."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.tables.model import TableKind
from tests.support.faults.callers import CancelledAtEvent
from tests.support.faults.fault import Fault
from tests.support.faults.programs import Ill, ProgramFault
from tests.support.faults.systemcalls import FLUSHES, PLACES, WRITES, Effect, SystemCallFault, anywhere_of_ours
from tests.support.image_sources import Way


class Kind(StrEnum):
    """What is deployed."""

    PARTITION = "a partition image"
    WHOLE = "a whole-disk image"
    GROWN = "a whole-disk image that grows"
    SYSTEMS = "several systems"
    TABLE = "a table"


class Form(StrEnum):
    """What the image's file is like."""

    RAW = "raw"
    QCOW2 = "qcow2"
    PACKED_QCOW2 = "packed qcow2"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


class Switch(StrEnum):
    """A call that has to do with which of several systems boots."""

    DEFAULT = "set_default"
    ONCE = "boot_once"
    TRY = "try_boot"
    CONFIRM = "confirm"
    ROLLBACK = "rollback"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A deployment."""

    kind: Kind
    seed: str
    form: Form = Form.RAW
    way: Way = Way.FILE
    label: str = "gpt"
    table: TableKind | None = None
    firmware: Firmware = Firmware.UEFI
    swap_mb: int = 0
    ephemeral_mb: int = 0
    ephemeral_format: str = "ext4"
    keeps_ephemeral: bool = False
    root_mb: int | None = None
    drive: bool = False
    verify: bool = False
    systems: int = 2
    both_firmwares: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A fault at a step, if the work goes so far, in the deployment or in a switch."""

    fault: Fault
    step: int
    in_switch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a seed decides: a deployment, perhaps with a fault, switches, and another deployment of the disk."""

    seed: int
    sector_size: int
    first: Chosen
    fault: Met | None
    switches: tuple[tuple[Switch, int], ...]
    again: Chosen

    def __str__(self) -> str:
        """Return it in a line."""
        met = f"{self.fault.fault.name}, step {self.fault.step}" if self.fault else "no fault"
        switched = f", {len(self.switches)} switches" if self.switches else ""
        return f"{self.sector_size}: {_words(self.first)}; {met}{switched}; then {_words(self.again)}"


def _words(chosen: Chosen) -> str:
    if chosen.kind is Kind.TABLE:
        return f"{chosen.kind} ({chosen.table or 'any'}, {chosen.firmware})"
    return f"{chosen.kind} ({chosen.form}, {chosen.way}, {chosen.firmware})"


def case_of(seed: int) -> Case:
    """Return what a seed decides."""
    draw = random.Random(f"soak {seed}")
    sector_size = draw.choice((512, 512, 4096))
    first = _deployment(draw, sector_size, f"{seed} first")
    fault = _fault(draw, first) if draw.random() < 0.5 else None
    switches: tuple[tuple[Switch, int], ...] = ()
    if first.kind is Kind.SYSTEMS:
        switches = tuple((draw.choice(list(Switch)), draw.randrange(4)) for _ in range(draw.randint(1, 4)))
    again = _deployment(draw, sector_size, f"{seed} again")
    if first.ephemeral_mb and draw.random() < 0.5:
        again = replace(first, keeps_ephemeral=True)
    return Case(seed=seed, sector_size=sector_size, first=first, fault=fault, switches=switches, again=again)


def _deployment(draw: random.Random, sector_size: int, seed: str) -> Chosen:
    kind = draw.choice(list(Kind))
    # A BIOS reads sectors of 512 bytes.
    firmware = draw.choice(list(Firmware)) if sector_size == 512 else Firmware.UEFI
    way = draw.choice(list(Way))
    form = draw.choice(list(Form))
    if kind is Kind.SYSTEMS:
        way = draw.choice((Way.FILE, Way.PARTS, Way.NO_PARTS))
    ephemeral = draw.choice((0, 0, 32)) if kind in {Kind.PARTITION, Kind.TABLE} else 0
    return Chosen(
        kind=kind,
        seed=seed,
        form=form,
        way=way,
        label=draw.choice(("gpt", "dos")),
        table=draw.choice((None, None, TableKind.GPT, TableKind.MBR)),
        firmware=firmware,
        swap_mb=draw.choice((0, 16)),
        ephemeral_mb=ephemeral,
        ephemeral_format=draw.choice(("ext4", "ext2", "vfat")),
        root_mb=draw.choice((None, 64)),
        drive=draw.random() < 0.5,
        verify=draw.random() < 0.3,
        systems=draw.randint(1, 3),
        both_firmwares=sector_size == 512 and draw.random() < 0.5,
    )


def _fault(draw: random.Random, chosen: Chosen) -> Met:
    events = 12
    calls = 120
    fault, most = draw.choice(
        (
            (CancelledAtEvent(), events),
            (_at_a_call("kill -9", Effect.KILL), calls),
            (_at_a_call("cancelled at a system call", Effect.CANCEL), calls),
            (ProgramFault(ill=draw.choice((Ill.FAILS, Ill.FAILS_LATE, Ill.KILLED))), 6),
        )
    )
    in_switch = chosen.kind is Kind.SYSTEMS and draw.random() < 0.3
    if in_switch:
        fault, most = _at_a_call("kill -9", Effect.KILL), 20
    return Met(fault=fault, step=draw.randint(1, most), in_switch=in_switch)


def _at_a_call(name: str, effect: Effect) -> SystemCallFault:
    return SystemCallFault(name=name, calls=WRITES | FLUSHES | PLACES, where=anywhere_of_ours, effect=effect)
