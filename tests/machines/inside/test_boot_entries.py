"""Boot entries in the variables of real firmware: OVMF, which started this machine."""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libironic_disk import grub, partitioner
from libironic_disk.grub import BootPlan
from libironic_disk.machine.boot.efi_entries import EFI_VARIABLES, Outcome, Registration
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import esp, root
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.support.oracles import output
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

LABEL = "a system of ours"
LOADER = r"\EFI\BOOT\BOOTX64.EFI"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
FILLER = "5a0e3f6c-1b4d-4c8e-9f57-2d6a7b8c9d0e"
# Attributes: kept over a reset, seen by the firmware's services, seen at run time.
KEPT = b"\x07\0\0\0"


def partitioned(disk: str) -> str:
    """Make the disk anew and return its ESP's PARTUUID."""
    layout = Layout(table=TableKind.GPT, partitions=(esp(mib(64)), root()))
    plan = partitioner.plan(layout, partitioner.observe(disk), existing=Existing.REPLACE)
    partitioner.apply(plan)
    settle()
    return plan.partitions[0].uuid


def registered(disk: str, partuuid: str, *, label: str = LABEL) -> Registration:
    """Register the disk's loader."""
    plan: BootPlan = grub.plan_boot(
        device=disk,
        firmware=Firmware.UEFI,
        architecture=Architecture.X86_64,
        table=TableKind.GPT,
        sector_size=512,
        first_partition_start=MIB,
        bios_boot=None,
        has_esp=True,
    )
    return grub.register(plan, esp_number=1, esp_partuuid=partuuid, label=label)


def variables() -> dict[str, str]:
    """Return what each variable has, by its name and its vendor."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in EFI_VARIABLES.iterdir()}


def changed(before: dict[str, str]) -> set[str]:
    """Return the names of the variables that came, went or changed; not that in which OVMF notes its own errors."""
    after = variables()
    names = before.keys() | after.keys()
    return {
        name.removesuffix(f"-{GLOBAL}")
        for name in names
        if before.get(name) != after.get(name) and not name.startswith("VarErrorFlag-")
    }


def boot_order() -> list[str]:
    """Return the numbers of the entries in the firmware's order, from the variable itself (UEFI 2.10, 3.1)."""
    data = (EFI_VARIABLES / f"BootOrder-{GLOBAL}").read_bytes()[4:]
    return [f"{int.from_bytes(data[at : at + 2], 'little'):04X}" for at in range(0, len(data), 2)]


def entries() -> dict[str, str]:
    """Return efibootmgr's lines, by number."""
    return dict(re.findall(r"^Boot([0-9A-F]{4})\* (.*)$", output("efibootmgr", "--verbose"), re.MULTILINE))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Take away the entries that a test made."""
    before = entries()
    yield
    for number in entries().keys() - before.keys():
        output("efibootmgr", "--bootnum", number, "--delete-bootnum")
    assert entries() == before


def test_a_new_entry_is_the_first_and_nothing_else_changes(nvme: str) -> None:
    partuuid = partitioned(nvme)
    before, order = variables(), boot_order()
    made = registered(nvme, partuuid)
    assert (made.outcome, made.warnings) == (Outcome.CREATED, ())
    assert changed(before) == {f"Boot{made.number}", "BootOrder"}
    assert boot_order() == [made.number, *order]
    assert entries()[made.number].startswith(f"{LABEL}\tHD(1,GPT,{partuuid},0x800,0x20000)")
    assert LOADER in entries()[made.number]


def test_an_entry_that_is_there_is_kept_and_nothing_is_written(nvme: str) -> None:
    partuuid = partitioned(nvme)
    number = registered(nvme, partuuid, label="Somebody's own").number
    before = variables()
    again = registered(nvme, partuuid)
    assert again == Registration(outcome=Outcome.REUSED, number=number)
    assert changed(before) == set()


def test_a_stale_entry_goes_and_others_stay(nvme: str) -> None:
    partuuid = partitioned(nvme)
    create = ("efibootmgr", "--quiet", "--create", "--disk", nvme, "--part", "1")
    output(*create, "--label", LABEL, "--loader", r"\EFI\OLD\GRUBX64.EFI")
    output(*create, "--label", "A neighbour", "--loader", r"\EFI\OTHER\BOOT.EFI")
    by_label = {text.partition("\t")[0]: number for number, text in entries().items()}
    before = variables()
    made = registered(nvme, partuuid)
    assert made.outcome is Outcome.CREATED
    # The number that came free may be taken at once.
    assert changed(before) == {f"Boot{by_label[LABEL]}", f"Boot{made.number}", "BootOrder"}
    assert [text.partition("\t")[0] for text in entries().values()].count(LABEL) == 1
    assert by_label["A neighbour"] in entries()
    assert boot_order()[0] == made.number


def test_a_disk_made_anew_gets_an_entry_of_its_own(nvme: str) -> None:
    first = registered(nvme, partitioned(nvme))
    second = registered(nvme, partitioned(nvme))
    assert (first.outcome, second.outcome) == (Outcome.CREATED, Outcome.CREATED)
    assert first.number != second.number
    assert boot_order()[:2] == [second.number, first.number]


@contextmanager
def full() -> Iterator[None]:
    """Leave no room for a variable. OVMF gives it back at a reset only, so nothing that writes may come after this."""
    made = []
    try:
        for size in (16384, 4096, 1024, 256, 64, 16, 1):
            while True:
                path = EFI_VARIABLES / f"Filler{uuid.uuid4().hex[:6]}-{FILLER}"
                made.append(path)  # also when it fails: efivarfs keeps the name
                try:
                    path.write_bytes(KEPT + bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
        yield
    finally:
        for path in made:
            subprocess.run(["chattr", "-i", str(path)], check=True)
            path.unlink()


def test_a_full_store_is_a_warning_and_changes_no_entry(nvme: str) -> None:
    """The last one of this file: see full()."""
    partuuid = partitioned(nvme)
    before, known = variables(), entries()
    with full():
        refused = registered(nvme, partuuid)
        assert entries() == known
    assert refused.outcome is Outcome.FAILED
    assert refused.number == ""
    (warning,) = refused.warnings
    assert "efibootmgr" in warning
    assert changed(before) == set()
