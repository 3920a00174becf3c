"""The power goes at any moment of a deployment: the disk boots the old system whole, nothing, or the new one whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.systemdisk import FILES
from libironic_disk import deploy
from libironic_disk.errors import Cancelled, DiskState
from libironic_disk.events import Cancellation, Event, Phase, PhaseStarted
from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE
from libironic_disk.pure.ranges import ByteRange, without
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import oracles
from tests.support.cut_deployments import Boots, Scene, assert_each, deployed_twice
from tests.support.power_cuts import outside

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 640 * MIB
DRIVE = {"meta_data": {"uuid": "f0f0"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a disk is made."""

    firmware: Firmware
    table: TableKind
    sector_size: int = 512

    def __str__(self) -> str:
        """Return its name in the table of faults."""
        return f"{self.firmware} from {self.table} with sectors of {self.sector_size}"


KINDS = [
    pytest.param(Kind(firmware=firmware, table=table, sector_size=sector_size), marks=marks, id=name)
    for name, firmware, table, sector_size, marks in (
        ("uefi", Firmware.UEFI, TableKind.GPT, 512, ()),
        ("bios", Firmware.BIOS, TableKind.MBR, 512, ()),
        ("uefi-4096", Firmware.UEFI, TableKind.GPT, 4096, pytest.mark.walk),
        ("uefi-mbr", Firmware.UEFI, TableKind.MBR, 512, pytest.mark.walk),
        ("bios-gpt", Firmware.BIOS, TableKind.GPT, 512, pytest.mark.walk),
    )
]


def make_image(folder: Path, name: str) -> Path:
    """Make a partition image: an ext4 with a kernel of sorts, whose every file says whose it is."""
    for path, content in FILES.items():
        file = folder / name / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"{name}\n".encode() + content)
    raw = folder / f"{name}.raw"
    oracles.output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(folder / name), str(raw), "16M")
    return raw


def deployed(
    kind: Kind, node: str, image: Path, *, preserve: bool = False, ends_in: Phase | None = None
) -> DeployResult:
    """Deploy with all partitions that there are, as far as a phase."""
    request = DeployRequest(
        device=node,
        image=image,
        firmware=kind.firmware,
        table=kind.table,
        seed=image.stem.encode(),
        swap_mb=8,
        ephemeral_mb=16,
        root_mb=32,
        config_drive=DRIVE,
        preserve_ephemeral=preserve,
    )
    cancel = Cancellation()

    def stop(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is ends_in:
            cancel.cancel()

    return deploy.deploy(request, sink=stop, cancel=cancel)


def scene(bench: Bench, folder: Path, kind: Kind, *, preserve: bool = False, ends_in: Phase | None = None) -> Scene:
    """Deploy twice, and look at the second time; that one may end with an error."""
    old, new = make_image(folder, "old"), make_image(folder, "new")
    first: list[DeployResult] = []

    def ended(node: str) -> DeployResult:
        if ends_in is None:
            return deployed(kind, node, new, preserve=preserve)
        with pytest.raises(Cancelled) as cancelled:
            deployed(kind, node, new, preserve=preserve, ends_in=ends_in)
        assert cancelled.value.disk is DiskState.UNBOOTABLE
        # The partitions would be the same ones.
        return first[0]

    def begun(node: str) -> DeployResult:
        first.append(deployed(kind, node, old))
        return first[0]

    return deployed_twice(
        bench, size=SIZE, sector_size=kind.sector_size, firmwares=frozenset({kind.firmware}), old=begun, new=ended
    )


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_table_before_the_last_write(
    bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind
) -> None:
    done = scene(bench, tmp_path, kind)
    seen = done.seen(seed=21, torn=torn)
    assert_each(seen)
    tell(f"deploy over a system, {kind}", done.run, seen)


def kept_and_table(done: Scene, kind: Kind) -> tuple[ByteRange, ...]:
    """Return where the kept partition is, and all that says which partitions there are: what is in none but the gap."""
    spans = {part.number: ByteRange(part.start, part.start + part.size) for part in done.result.partitions}
    (kept,) = (part.number for part in done.result.partitions if part.role is Role.EPHEMERAL)
    others = (span for number, span in spans.items() if number != kept)
    # GRUB's code lies behind an MBR, but not behind a GPT.
    head = ByteRange(BOOT_CODE_SIZE, kind.sector_size if kind.table is TableKind.MBR else MIB)
    beside = outside(max(span.end for span in spans.values()), ByteRange(0, MIB), *others)
    assert without([spans[kept]], beside) == ()
    return (head, *beside, ByteRange(SIZE - MIB, SIZE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_partition_and_its_entry_are_there_at_each_moment(
    bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind
) -> None:
    done = scene(bench, tmp_path, kind, preserve=True)
    seen = done.seen(seed=22, torn=torn, kept=kept_and_table(done, kind))
    assert_each(seen)
    tell(f"deploy beside a kept volume, {kind}", done.run, seen)


UEFI = Kind(firmware=Firmware.UEFI, table=TableKind.GPT)
BIOS = Kind(firmware=Firmware.BIOS, table=TableKind.MBR)


@pytest.mark.parametrize(
    ("kind", "preserve"),
    [
        pytest.param(UEFI, True, id="uefi-kept"),
        pytest.param(BIOS, True, id="bios-kept", marks=pytest.mark.walk),
        pytest.param(UEFI, False, id="uefi", marks=pytest.mark.walk),
        pytest.param(BIOS, False, id="bios", marks=pytest.mark.walk),
    ],
)
def test_a_deployment_that_is_cancelled_leaves_the_old_system_or_nothing(
    bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind, preserve: bool
) -> None:
    done = scene(bench, tmp_path, kind, preserve=preserve, ends_in=Phase.BOOT_LOADER)
    seen = done.seen(seed=32, torn=torn, kept=kept_and_table(done, kind) if preserve else ())
    assert seen[Boots.OLD] >= 1
    assert seen[Boots.NEW] == 0
    assert seen[Boots.NOTHING] > 30
    tell(f"deploy {'beside a kept volume' if preserve else 'over a system'} and cancel, {kind}", done.run, seen)
