"""An image's loaders and a firmware with variables, an order and little room, in efibootmgr's words (version 17)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from libironic_disk.errors import ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.boot import efi_entries
from libironic_disk.machine.boot.efi_entries import Outcome, Registration
from libironic_disk.machine.boot.image_loaders import FoundLoaders, ImageLoader
from libironic_disk.machine.process import Completed

ESP = "103d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
OTHER = "203d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
REMOVABLE = "EFI/BOOT/BOOTX64.EFI"
SHIM = ImageLoader(path="EFI/fedora/shimx64.efi", label="Fedora")
UKI = ImageLoader(path="EFI/fedora/shimx64.efi", label="Fedora UKI", options="\\EFI\\Linux\\f.efi ")
DEBIAN = ImageLoader(path="EFI/debian/shimx64.efi", label="debian")
BOTH = FoundLoaders(loaders=(DEBIAN, SHIM), removable=REMOVABLE, files={"fedora": frozenset({"shimx64.efi"})})
NO_ROOM = "Could not prepare Boot variable: No space left on device"


class Firmware:
    """Stands in for efibootmgr and what it writes to."""

    def __init__(self, *, room: int = 100) -> None:
        self.entries: dict[str, str] = {}
        self.order: list[str] = []
        self.room = room
        self.writes = 0
        self.fails: dict[str, Exception] = {}
        self.forgets = False
        self.keeps_order = False

    def add(self, label: str, path: str, *, partuuid: str = ESP, data: str = "") -> str:
        number = next(each for each in (f"{at:04X}" for at in range(999)) if each not in self.entries)
        file = path.replace("/", "\\").strip("\\")
        self.entries[number] = f"* {label}\tHD(1,GPT,{partuuid},0x800,0x20000)/File(\\{file}){data}"
        self.order.insert(0, number)
        return number

    def run(self, *argv: str, timeout: float) -> Completed:
        assert timeout > 0
        for word, error in self.fails.items():
            if word in argv:
                raise error
        self.writes += argv != ("efibootmgr", "--verbose")
        if "--create" in argv:
            self._create(dict(pairwise(argv)), argv)
        elif "--delete-bootnum" in argv:
            del self.entries[argv[2]]
            self.order.remove(argv[2])
        elif "--active" in argv:
            self.entries[argv[2]] = f"*{self.entries[argv[2]][1:]}"
        elif "--bootorder" in argv and not self.keeps_order:
            self.order = argv[-1].split(",")
        lines = [f"BootOrder: {','.join(self.order)}", *(f"Boot{n}{text}" for n, text in self.entries.items())]
        return Completed(argv=argv, exit_code=0, stdout="\n".join(lines).encode(), stderr="")

    def _create(self, words: dict[str, str], argv: tuple[str, ...]) -> None:
        assert (words["--disk"], words["--part"]) == ("/dev/sda", "1")
        if len(self.entries) >= self.room:
            raise ProgramFailed(argv=argv, stderr=NO_ROOM, exit_code=8)
        data = "".join(f"{letter}." for letter in words.get("--", ""))
        assert ("--unicode" in argv) == bool(data)
        if not self.forgets:
            number = self.add(words["--label"], words["--loader"], data=data)
            if self.keeps_order:
                self.order.remove(number)


Register = Callable[[FoundLoaders], tuple[Registration, ...]]


@pytest.fixture
def firmware(monkeypatch: pytest.MonkeyPatch) -> Firmware:
    firmware = Firmware()
    monkeypatch.setattr(process, "run", firmware.run)
    firmware.add("PXE", "EFI/pxe.efi", partuuid=OTHER)
    return firmware


@pytest.fixture
def register(firmware: Firmware, tmp_path: Path) -> Register:
    variables = tmp_path / "efivars"
    variables.mkdir()
    (variables / "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c").touch()

    def call(found: FoundLoaders) -> tuple[Registration, ...]:
        return efi_entries.register_loaders(
            found, disk="/dev/sda", number=1, partuuid=ESP, label="My image", variables=variables
        )

    return call


def outcomes(done: tuple[Registration, ...]) -> list[tuple[Outcome, str]]:
    return [(each.outcome, each.number) for each in done]


def test_new_ones_come_first_in_their_order_and_a_second_run_writes_nothing(
    firmware: Firmware, register: Register
) -> None:
    done = register(BOTH)
    assert outcomes(done) == [(Outcome.CREATED, "0002"), (Outcome.CREATED, "0001")]
    assert [each.warnings for each in done] == [(), ()]
    assert firmware.order == ["0002", "0001", "0000"]
    writes = firmware.writes
    assert outcomes(register(BOTH)) == [(Outcome.REUSED, "0002"), (Outcome.REUSED, "0001")]
    assert firmware.writes == writes


def test_without_a_csv_the_removable_path_gets_an_entry_of_the_callers_label(
    firmware: Firmware, register: Register
) -> None:
    """Case 15: no CSV."""
    found = FoundLoaders(removable=REMOVABLE)
    assert outcomes(register(found)) == [(Outcome.CREATED, "0001")]
    assert firmware.entries["0001"].startswith("* My image\t")
    assert outcomes(register(found)) == [(Outcome.REUSED, "0001")]
    assert register(FoundLoaders()) == ()


def test_two_entries_of_one_file_with_and_without_options(firmware: Firmware, register: Register) -> None:
    found = FoundLoaders(loaders=(SHIM, UKI))
    assert outcomes(register(found)) == [(Outcome.CREATED, "0002"), (Outcome.CREATED, "0001")]
    assert firmware.entries["0001"].endswith(")\\.E.F.I.\\.L.i.n.u.x.\\.f...e.f.i. .")
    writes = firmware.writes
    assert outcomes(register(found)) == [(Outcome.REUSED, "0002"), (Outcome.REUSED, "0001")]
    assert firmware.writes == writes


def test_stale_entries_go_and_other_disks_stay(firmware: Firmware, register: Register) -> None:
    """Case 15: two disks with the same label."""
    theirs = firmware.add("Fedora", SHIM.path, partuuid=OTHER)
    stale = firmware.add("Fedora", "EFI/fedora/grubx64.efi")
    unknown = firmware.add("Fedora", "EFI/elsewhere/x.efi")
    before = dict(firmware.entries)
    done = register(BOTH)
    assert [each.outcome for each in done] == [Outcome.CREATED, Outcome.CREATED]
    assert {number: firmware.entries[number] for number in (theirs, unknown)} == {
        number: before[number] for number in (theirs, unknown)
    }
    assert "grubx64" not in str(firmware.entries)
    # A number that comes free may be taken at once.
    assert stale in {each.number for each in done}


def test_an_order_that_is_put_right_keeps_what_could_not_be_removed(firmware: Firmware, register: Register) -> None:
    stays = firmware.add("Fedora", "EFI/fedora/grubx64.efi")
    kept = firmware.add("Fedora", SHIM.path)
    firmware.order.remove(kept)
    firmware.fails = {"--delete-bootnum": ProgramFailed(argv=("efibootmgr",), stderr="no", exit_code=1)}
    found = FoundLoaders(loaders=(SHIM,), files={"fedora": frozenset({"shimx64.efi"})})
    assert outcomes(register(found)) == [(Outcome.REUSED, kept)]
    assert firmware.order == [kept, "0000", stays]


def test_one_that_is_asleep_or_in_no_order_is_brought_back(firmware: Firmware, register: Register) -> None:
    number = firmware.add("Fedora", SHIM.path)
    firmware.entries[number] = f" {firmware.entries[number][1:]}"
    firmware.order.remove(number)
    assert outcomes(register(FoundLoaders(loaders=(SHIM,)))) == [(Outcome.REUSED, number)]
    assert firmware.entries[number].startswith("* ")
    assert firmware.order == [number, "0000"]


@pytest.mark.parametrize(
    ("removable", "says"),
    [
        (REMOVABLE, "the firmware starts EFI/BOOT/BOOTX64.EFI and not EFI/fedora/shimx64.efi"),
        ("", "partition 1 of /dev/sda has no loader that firmware starts without an entry: nothing may start"),
    ],
)
@pytest.mark.parametrize("how", ["full", "forgets", "hangs"])
def test_a_full_store_says_what_starts_instead(
    firmware: Firmware, register: Register, removable: str, says: str, how: str
) -> None:
    """Case 15: NVRAM full."""
    if how == "full":
        firmware.room = 1
    elif how == "hangs":
        firmware.fails = {"--create": ProgramTimedOut(argv=("efibootmgr",), stderr="", timeout=60)}
    firmware.forgets = True
    done = register(FoundLoaders(loaders=(DEBIAN, SHIM), removable=removable))
    assert outcomes(done) == [(Outcome.FAILED, "")] * 2
    why = {"full": NO_ROOM, "forgets": "although efibootmgr made one", "hangs": "60"}[how]
    for each in done:
        assert len(each.warnings) == 2
        assert why in each.warnings[0]
    assert done[1].warnings[1].startswith(says)
    assert firmware.order == ["0000"]


def test_room_for_one_of_two(firmware: Firmware, register: Register) -> None:
    firmware.room = 2
    done = register(BOTH)
    assert outcomes(done) == [(Outcome.FAILED, ""), (Outcome.CREATED, "0001")]
    assert done[0].warnings[1] == "the firmware starts EFI/fedora/shimx64.efi and not EFI/debian/shimx64.efi"
    assert done[1].warnings == ()


def test_no_room_for_the_removable_path(firmware: Firmware, register: Register) -> None:
    firmware.room = 1
    (done,) = register(FoundLoaders(removable=REMOVABLE))
    assert done.warnings[1] == "the firmware starts EFI/BOOT/BOOTX64.EFI without an entry, but after those that it has"


def test_firmware_that_keeps_its_order(firmware: Firmware, register: Register) -> None:
    firmware.keeps_order = True
    (done,) = register(FoundLoaders(loaders=(SHIM,), removable=REMOVABLE))
    assert (done.outcome, done.number) == (Outcome.FAILED, "0001")
    assert "not in its boot order" in done.warnings[0]


@pytest.mark.parametrize(
    ("word", "error", "outcome"),
    [
        ("--verbose", ToolMissing(tool="efibootmgr", package="efibootmgr"), Outcome.FAILED),
        ("--delete-bootnum", ProgramFailed(argv=("efibootmgr",), stderr="no", exit_code=1), Outcome.CREATED),
    ],
)
def test_trouble_is_never_raised(
    firmware: Firmware, register: Register, word: str, error: Exception, outcome: Outcome
) -> None:
    firmware.add("Fedora", "EFI/fedora/grubx64.efi")
    firmware.fails = {word: error}
    done = register(BOTH)
    assert [each.outcome for each in done] == [outcome, outcome]
    assert str(error) in done[0].warnings


def test_without_variables(firmware: Firmware, tmp_path: Path) -> None:
    def call(found: FoundLoaders) -> list[tuple[str, ...]]:
        done = efi_entries.register_loaders(
            found, disk="/dev/sda", number=1, partuuid=ESP, label="x", variables=tmp_path / "none"
        )
        assert {each.outcome for each in done} == {Outcome.UNAVAILABLE}
        return [each.warnings for each in done]

    assert call(BOTH) == [(), ()]
    ((warning,),) = call(FoundLoaders(loaders=(SHIM,)))
    assert "nothing may start EFI/fedora/shimx64.efi" in warning
    assert firmware.writes == 0
