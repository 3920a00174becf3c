"""Boot entries in the variables of real firmware: OVMF, which started this machine."""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import deploy, grub, partitioner
from libironic_disk.grub import BootPlan
from libironic_disk.images import ImageType
from libironic_disk.machine.boot import efi_entries, image_loaders
from libironic_disk.machine.boot.efi_entries import EFI_VARIABLES, Outcome, Registration
from libironic_disk.machine.boot.image_loaders import FoundLoaders
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import esp, root
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import MIB
from tests.support import configdrives
from tests.support.configdrives import Tree
from tests.support.machinedisks import blank, children
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


FEDORA = "SHIMX64.EFI,Fedora\r\nshimx64.efi,Fédora UKI,\\EFI\\Linux\\f.efi ,comment\r\n".encode("utf-16-le")
SUSE = b"\xef\xbb\xbfshim.efi,opensuse-secureboot"
IMAGE: Tree = {
    "EFI/BOOT/BOOTX64.EFI": b"MZ",
    "EFI/fedora/BOOTX64.CSV": FEDORA,
    "EFI/fedora/shimx64.efi": b"MZ",
    "EFI/opensuse/boot.csv": SUSE,
    "EFI/opensuse/shim.efi": b"MZ",
}


class Image:
    """A disk with an image's ESP, the loaders that were found there, and its PARTUUID."""

    def __init__(self, disk: str, tree: Tree) -> None:
        self.disk = disk
        self.partuuid = partitioned(disk)
        self.fill(tree)

    def fill(self, tree: Tree) -> None:
        (node, *_) = [child.node for child in children(self.disk)]
        Path(node).write_bytes(configdrives.fat(tree, size=8 * MIB, label="ESP"))
        self.found: FoundLoaders = image_loaders.find(node, Architecture.X86_64)
        assert [problem for problem in self.found.problems if "no loader" not in problem] == []

    def register(self) -> list[tuple[Outcome, str]]:
        """Register the loaders; there is nothing to warn of."""
        done = self.attempt()
        assert [each.warnings for each in done] == [()] * len(done)
        return [(each.outcome, each.number) for each in done]

    def attempt(self) -> tuple[Registration, ...]:
        return efi_entries.register_loaders(
            self.found, disk=self.disk, number=1, partuuid=self.partuuid, label="An image"
        )


def test_an_images_loaders_come_first_and_a_second_run_writes_nothing(nvme: str) -> None:
    """Case 15: two CSVs, UTF-16LE without a mark, upper-case .EFI."""
    image = Image(nvme, IMAGE)
    before, order = variables(), boot_order()
    done = image.register()
    assert [outcome for outcome, _ in done] == [Outcome.CREATED] * 3
    numbers = [number for _, number in done]
    assert boot_order() == [*numbers, *order]
    assert changed(before) == {"BootOrder", *(f"Boot{number}" for number in numbers)}
    listed = [entries()[number] for number in numbers]
    where = f"\tHD(1,GPT,{image.partuuid},0x800,0x20000)/File(\\EFI"
    assert listed[0] == rf"Fedora{where}\fedora\shimx64.efi)"
    assert listed[1].startswith(rf"Fédora UKI{where}\fedora\shimx64.efi)\.E.F.I.\.L.i.n.u.x.\.f...e.f.i. .")
    assert listed[2] == rf"opensuse-secureboot{where}\opensuse\shim.efi)"
    # What the loader is told: UCS-2, to the variable's end and without a NUL, as shim's fallback writes it.
    uki = (EFI_VARIABLES / f"Boot{numbers[1]}-{GLOBAL}").read_bytes()
    assert uki.endswith("\\EFI\\Linux\\f.efi ".encode("utf-16-le"))
    before = variables()
    assert image.register() == [(Outcome.REUSED, number) for number in numbers]
    assert changed(before) == set()


@pytest.mark.parametrize("entry", FirmwareEntry)
def test_a_deployed_image_is_told_to_the_firmware(nvme: str, tmp_path: Path, entry: FirmwareEntry) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(16 * MIB))
    script = "label: gpt\nstart=2048, size=16384, type=U\nstart=18432, size=4096"
    subprocess.run(["sfdisk", "--quiet", image], input=script, text=True, check=True)
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(configdrives.fat(IMAGE, size=8 * MIB, label="ESP"))
    request = DeployRequest(device=nvme, image=image, image_type=ImageType.WHOLE_DISK, firmware_entry=entry)
    order = boot_order()
    result = deploy.deploy(request)
    assert result.warnings == ()
    new = [entries()[number].partition("\t")[0] for number in boot_order() if number not in order]
    assert new == (["Fedora", "Fédora UKI", "opensuse-secureboot"] if entry is FirmwareEntry.AUTO else [])
    esp_part = result.partition(Role.ESP)
    assert esp_part is not None
    assert esp_part.filesystem == "vfat"
    # The same image again is the same disk to the firmware.
    before = variables()
    deploy.deploy(request)
    assert changed(before) == set()


def test_an_image_without_a_csv(nvme: str) -> None:
    """Case 15: no CSV."""
    image = Image(nvme, {"EFI/BOOT/BOOTX64.EFI": b"MZ"})
    ((outcome, number),) = image.register()
    assert outcome is Outcome.CREATED
    assert entries()[number] == f"An image\tHD(1,GPT,{image.partuuid},0x800,0x20000)/File({LOADER})"
    assert image.register() == [(Outcome.REUSED, number)]


def test_two_disks_with_the_same_label(nvme: str) -> None:
    """Case 15."""
    first, second = Image(nvme, IMAGE), Image(blank("virtio-512"), IMAGE)
    theirs = [number for _, number in first.register()]
    before = {number: entries()[number] for number in theirs}
    ours = [number for _, number in second.register()]
    assert not set(theirs) & set(ours)
    assert {number: entries()[number] for number in theirs} == before
    assert boot_order()[:6] == [*ours, *theirs]
    # Nor does the second disk's next image, which has less and one of another name.
    second.fill({"EFI/fedora/BOOTX64.CSV": b"new.efi,Fedora", "EFI/fedora/new.efi": b"MZ"})
    ((outcome, number),) = second.register()
    assert outcome is Outcome.CREATED
    assert {number: entries()[number] for number in theirs} == before
    labels = [text.partition("\t")[0] for number, text in entries().items() if number not in theirs]
    assert labels.count("Fedora") == 1
    assert boot_order()[0] == number


@contextmanager
def foreign_entry(description: bytes) -> Iterator[str]:
    """Write an entry as some firmware or tool would, with any description (UEFI 2.10, 3.1.3)."""
    file = "\\EFI\\x.efi\0".encode("utf-16-le")
    path = b"\x04\x04" + (4 + len(file)).to_bytes(2, "little") + file + b"\x7f\xff\x04\0"
    option = b"\1\0\0\0" + len(path).to_bytes(2, "little") + description + b"\0\0" + path
    variable = EFI_VARIABLES / f"Boot00AB-{GLOBAL}"
    variable.write_bytes(KEPT + option)
    try:
        yield "00AB"
    finally:
        subprocess.run(["chattr", "-i", str(variable)], check=True)
        variable.unlink()


@pytest.mark.parametrize(
    "description",
    [
        b"\0\xd8",
        "naïve 漢字".encode("utf-16-le"),
        b"\xff\xff\x80\0\x07\0\x1b\0",
        "a\r\nBoot0001* b\t".encode("utf-16-le"),
    ],
    ids=["half-a-surrogate", "not-ascii", "no-characters", "lines"],
)
def test_labels_that_are_no_utf_8_are_passed_over(nvme: str, description: bytes) -> None:
    """Case 15: NVRAM labels not UTF-8."""
    image = Image(nvme, {"EFI/BOOT/BOOTX64.EFI": b"MZ"})
    with foreign_entry(description) as number:
        before = (EFI_VARIABLES / f"Boot{number}-{GLOBAL}").read_bytes()
        ((_, made),) = image.register()
        assert image.register() == [(Outcome.REUSED, made)]
        assert (EFI_VARIABLES / f"Boot{number}-{GLOBAL}").read_bytes() == before


def test_the_label_of_an_image_may_be_any_text(nvme: str) -> None:
    label = "-L 'é\N{ROCKET}%s$(reboot)"
    image = Image(nvme, {"EFI/a b/BOOTX64.CSV": f"-x (1)é.efi,{label}".encode(), "EFI/a b/-x (1)é.efi": b"MZ"})
    ((outcome, number),) = image.register()
    assert outcome is Outcome.CREATED
    assert entries()[number].startswith("-L 'é?%s$(reboot)\tHD(")
    assert image.register() == [(Outcome.REUSED, number)]


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
    """Case 15: NVRAM full. The last one of this file: see full()."""
    image = Image(nvme, IMAGE)
    bare = Image(
        blank("virtio-512"), {"EFI/fedora/BOOTX64.CSV": b"shimx64.efi,Fedora", "EFI/fedora/shimx64.efi": b"MZ"}
    )
    before, known = variables(), entries()
    with full():
        refused = registered(nvme, image.partuuid)
        assert entries() == known
        degraded = image.attempt()
        (unbootable,) = bare.attempt()
        assert entries() == known
    assert [each.outcome for each in (*degraded, unbootable)] == [Outcome.FAILED] * 4
    for each in degraded:
        assert "efibootmgr" in each.warnings[0]
        assert each.warnings[-1].startswith("the firmware starts EFI/BOOT/BOOTX64.EFI and not EFI/")
    assert "nothing may start EFI/fedora/shimx64.efi" in unbootable.warnings[-1]
    assert refused.outcome is Outcome.FAILED
    assert refused.number == ""
    (warning,) = refused.warnings
    assert "efibootmgr" in warning
    assert changed(before) == set()
