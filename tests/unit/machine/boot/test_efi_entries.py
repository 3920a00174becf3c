"""efibootmgr's own output, captured in QEMU with OVMF from versions 17 (Debian 12) and 18 (Debian 13)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from libironic_disk.errors import ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.boot import efi_entries
from libironic_disk.machine.boot.efi_entries import Outcome, Registration
from libironic_disk.machine.process import Completed
from libironic_disk.pure.boot.efientries import Loader

HERE = Path(__file__).parent
GPT_ESP = "103d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
REMOVABLE = "EFI/BOOT/BOOTX64.EFI"
EMPTY = "BootCurrent: 0001\nTimeout: 0 seconds\nBootOrder: 0001\n"

# The form that later versions of libefivar print: no File(), and an entry's data right behind the path.
NO_FILE = (
    "BootOrder: 0000,0001\n"
    "Boot0000* Windows Boot Manager\t"
    f"HD(1,GPT,{GPT_ESP},0x800,0x32000)/\\EFI\\Microsoft\\Boot\\bootmgfw.efi57494e444f5753000100000088\n"
    "Boot0001* UOS (EFI stub)\t"
    f"HD(1,GPT,{GPT_ESP.upper()},0x800,0x96000)/\\EFI\\BOOT\\bootx64.efi.root=/dev/nvme0n1p5\n"
)


def loader(*, partuuid: str = GPT_ESP, path: str = REMOVABLE, number: int = 1) -> Loader:
    return Loader(disk="/dev/vda", number=number, partuuid=partuuid, path=path)


class Firmware:
    """Stands in for efibootmgr: keeps its entries as text and what it was asked for."""

    def __init__(self, text: str, *, creates: str = "", fails: dict[str, Exception] | None = None) -> None:
        self.text = text
        self.creates = creates
        self.fails = fails or {}
        self.changes: list[tuple[str, ...]] = []

    def run(self, *argv: str, timeout: float) -> Completed:
        assert timeout > 0
        for word, error in self.fails.items():
            if word in argv:
                raise error
        if argv != ("efibootmgr", "--verbose"):
            self.changes.append(argv[1:])
        if "--create" in argv:
            self.text += self.creates
            if self.creates:
                self.text = self.text.replace("BootOrder: ", f"BootOrder: {self.creates[4:8]},")
        if "--delete-bootnum" in argv:
            number = argv[argv.index("--bootnum") + 1]
            self.text = "".join(line for line in self.text.splitlines(True) if not line.startswith(f"Boot{number}"))
            self.text = re.sub(rf"(?<=[ ,]){number},|,{number}$", "", self.text, flags=re.MULTILINE)
        if "--bootorder" in argv:
            self.text = re.sub("BootOrder: .*", f"BootOrder: {argv[-1]}", self.text)
        return Completed(argv=argv, exit_code=0, stdout=self.text.encode(), stderr="")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Firmware, Loader, str], Registration]:
    (tmp_path / "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c").touch()

    def call(firmware: Firmware, loader: Loader, label: str) -> Registration:
        monkeypatch.setattr(process, "run", firmware.run)
        return efi_entries.register(loader, label=label, variables=tmp_path)

    return call


Register = Callable[[Firmware, Loader, str], Registration]


@pytest.mark.parametrize("version", ["17", "18"])
def test_an_entry_for_the_same_loader_is_kept_whatever_its_label(register: Register, version: str) -> None:
    firmware = Firmware((HERE / f"efibootmgr-{version}.txt").read_text())
    assert register(firmware, loader(), "New") == Registration(outcome=Outcome.REUSED, number="0003")
    assert register(firmware, loader(path="efi/debian/SHIMX64.efi"), "New").number == "0004"
    assert firmware.changes == []


@pytest.mark.parametrize("version", ["17", "18"])
def test_only_our_own_stale_entry_on_the_same_partition_goes(register: Register, version: str) -> None:
    text = (HERE / f"efibootmgr-{version}.txt").read_text()
    other_disk = f"Boot0009* Ironic 1\tHD(1,GPT,{GPT_ESP.replace('1', '2')},0x800,0x100)/File(\\EFI\\OLD.EFI)\n"
    made = f"Boot0007* Ironic 1\tHD(1,GPT,{GPT_ESP},0x100,0x100)/File(\\EFI\\NEW\\GRUB.EFI)\n"
    firmware = Firmware(text + other_disk, creates=made)
    done = register(firmware, loader(path="EFI/NEW/GRUB.EFI"), "Ironic 1")
    assert done == Registration(outcome=Outcome.CREATED, number="0007")
    create = (
        "--create",
        "--disk",
        "/dev/vda",
        "--part",
        "1",
        "--label",
        "Ironic 1",
        "--loader",
        "\\EFI\\NEW\\GRUB.EFI",
    )
    assert firmware.changes == [("--bootnum", "0003", "--delete-bootnum"), create]
    assert "Boot0009" in firmware.text
    assert "Boot0004" in firmware.text


def test_a_second_entry_of_ours_for_the_same_loader_goes(register: Register) -> None:
    text = (HERE / "efibootmgr-17.txt").read_text()
    again = f"Boot0005* Ironic 1\tHD(1,GPT,{GPT_ESP},0x100,0x100)/File(\\EFI\\BOOT\\BOOTX64.EFI)\n"
    firmware = Firmware(text + again)
    assert register(firmware, loader(), "Ironic 1").number == "0003"
    assert firmware.changes == [("--bootnum", "0005", "--delete-bootnum")]


def test_the_form_without_file(register: Register) -> None:
    assert register(Firmware(NO_FILE), loader(), "New") == Registration(outcome=Outcome.REUSED, number="0001")


@pytest.mark.parametrize(
    ("partuuid", "number", "outcome"),
    [
        ("05be307c-01", 1, Outcome.REUSED),
        ("05be307c-02", 2, Outcome.FAILED),
        ("15be307c-01", 1, Outcome.FAILED),
    ],
)
def test_partitions_of_an_mbr(register: Register, partuuid: str, number: int, outcome: Outcome) -> None:
    firmware = Firmware((HERE / "efibootmgr-17-mbr.txt").read_text())
    assert register(firmware, loader(partuuid=partuuid, number=number), "New").outcome is outcome


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("--create", ProgramFailed(argv=("efibootmgr",), stderr="No space left on device", exit_code=8)),
        ("--create", ProgramTimedOut(argv=("efibootmgr",), stderr="", timeout=60)),
        ("--verbose", ToolMissing(tool="efibootmgr", package="efibootmgr")),
    ],
)
def test_a_failure_is_a_warning(register: Register, argument: str, error: Exception) -> None:
    done = register(Firmware(EMPTY, fails={argument: error}), loader(), "New")
    assert done == Registration(outcome=Outcome.FAILED, warnings=(str(error),))


def test_a_stale_entry_that_stays_is_a_warning(register: Register) -> None:
    error = ProgramFailed(argv=("efibootmgr",), stderr="read-only", exit_code=15)
    stale = f"Boot0008* Mine\tHD(1,GPT,{GPT_ESP},0x100,0x100)/File(\\EFI\\OLD.EFI)\n"
    made = f"Boot0007* Mine\tHD(1,GPT,{GPT_ESP},0x100,0x100)/File(\\EFI\\BOOT\\BOOTX64.EFI)\n"
    done = register(Firmware(EMPTY + stale, creates=made, fails={"--delete-bootnum": error}), loader(), "Mine")
    assert done == Registration(outcome=Outcome.CREATED, number="0007", warnings=(str(error),))


def test_firmware_that_forgets_is_a_warning(register: Register) -> None:
    done = register(Firmware(EMPTY), loader(), "New")
    assert done.outcome is Outcome.FAILED
    assert "no entry for \\EFI\\BOOT\\BOOTX64.EFI" in done.warnings[0]


def test_without_variables_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "run", None)
    for variables in (tmp_path, tmp_path / "none"):
        done = efi_entries.register(loader(), label="New", variables=variables)
        assert done == Registration(outcome=Outcome.UNAVAILABLE)
