"""The harness itself, on a boot sector that needs no system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from lab import qemu
from lab.qemu import Machine, MachineFailed, booted
from libironic_disk.pure.roles import Firmware
from tests.support.bootsector import MARKER, disk
from tests.support.udevd import until

pytestmark = pytest.mark.machine


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def pid_of(machine: Machine) -> int:
    return machine._process.pid


def test_reads_and_types_on_the_serial_port_and_ends_the_machine(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    before = path.read_bytes()
    with booted(path) as machine:
        machine.wait_for(MARKER, timeout=30)
        machine.type("@")
        assert machine.wait_for("@", timeout=10).split(MARKER)[1] == "@"
        assert is_alive(pid_of(machine))
    assert not is_alive(pid_of(machine))
    assert path.read_bytes() == before


def test_a_marker_that_does_not_come_shows_what_came(tmp_path: Path) -> None:
    with booted(disk(tmp_path / "disk")) as machine:
        machine.wait_for(MARKER, timeout=30)
        with pytest.raises(MachineFailed, match=f"(?s)no 'another' within 0.2 s.*{MARKER}") as caught:
            machine.wait_for("another", timeout=0.2)
        assert MARKER in caught.value.transcript
        with pytest.raises(MachineFailed, match="still on"):
            machine.wait_until_off(timeout=0.2)
    assert not is_alive(pid_of(machine))


def test_a_machine_that_does_not_start_says_why(tmp_path: Path) -> None:
    with booted(tmp_path / "none") as machine, pytest.raises(MachineFailed, match=r"(?s)ended without.*none"):
        machine.wait_for(MARKER, timeout=30)


def test_an_error_inside_ends_the_machine_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), booted(disk(tmp_path / "disk")) as machine:
        raise KeyError
    assert not is_alive(pid_of(machine))


def test_uefi_starts(tmp_path: Path) -> None:
    with booted(disk(tmp_path / "disk"), firmware=Firmware.UEFI, sector_size=4096) as machine:
        machine.wait_for("BdsDxe: ", timeout=60)


def test_a_machine_ends_with_the_process_that_started_it() -> None:
    program = "from lab.qemu import started\nwith started(['-S']) as m: print(m._process.pid, flush=True); input()"
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        # Before that it is setpriv, which may not have asked for the signal yet.
        assert until(lambda: Path(f"/proc/{pid}/comm").read_text().startswith("qemu"), within=10)
        owner.kill()
    try:
        assert until(lambda: not is_alive(pid), within=10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("more", "is_taken"), [((), True), (("-S",), False)], ids=["runs", "does nothing"])
def test_the_native_processor_is_taken_only_if_a_firmware_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: tuple[str, ...], is_taken: bool
) -> None:
    """An emulated one plays it, so that this says the same on every host; -S leaves it stopped."""
    monkeypatch.setattr(qemu, "_KVM", tmp_path)
    monkeypatch.setattr(qemu, "NATIVE", (*qemu.EMULATED, "-name", "native", *more))
    monkeypatch.setattr(qemu, "_PROBE_TIMEOUT", 60 if is_taken else 0.5)
    assert qemu.processor.__wrapped__() == (qemu.NATIVE if is_taken else qemu.EMULATED)
