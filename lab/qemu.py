"""Machines to boot a disk in: QEMU, watched through its first serial port.

A machine is a ``with``: whatever happens inside, QEMU is killed by its pid and reaped, and nothing it wrote to the
disk stays.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from libironic_disk.pure.roles import Firmware

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# Microsoft's keys are in it, by which distributions' shims are signed.
OVMF_SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd")
OVMF_SECURE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")

DISK_BOOT_INDEX = 10
"""The disk's place in the firmware's order."""

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78Mc])|[\x00\x07\x08\r]")
_SHOWN = 4000

# x86-64-v2: what came later (AVX2) is slow to emulate. A second processor gains nothing.
EMULATED = ("-accel", "tcg", "-cpu", "Nehalem", "-smp", "1")
NATIVE = ("-accel", "kvm", "-cpu", "host", "-smp", "2")

_KVM = Path("/dev/kvm")
# OVMF's first words, when it has found what there is to boot. With KVM it is there in a second or two.
_PROBE = "BdsDxe:"
_PROBE_TIMEOUT = 5


class MachineFailed(Exception):
    """A machine didn't do what was waited for; ``transcript`` is all that its serial port said."""

    def __init__(self, what: str, transcript: str) -> None:
        super().__init__(f"{what}; the end of what it said:\n{transcript[-_SHOWN:]}")
        self.transcript = transcript


class Machine:
    """A running machine; :func:`booted` makes one."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self._said = bytearray()
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"serial-{process.pid}", daemon=True)
        self._reader.start()
        self.started = time.monotonic()

    @property
    def transcript(self) -> str:
        """All that the serial port said so far, without control sequences."""
        with self._news:
            return self._text()

    @property
    def is_on(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, marker: str, *, timeout: float) -> str:
        """Wait until the serial port has said ``marker``; return the transcript.

        Raises:
            MachineFailed: it didn't within ``timeout`` seconds, or the machine ended before.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while marker not in (text := self._text()):
                if self._ended:
                    raise MachineFailed(f"the machine ended without {marker!r}", text)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise MachineFailed(f"no {marker!r} within {timeout:g} s", text)
                self._news.wait(left)
            return text

    def wait_until_off(self, *, timeout: float) -> str:
        """Wait until the machine has turned itself off or resets; return the transcript.

        Raises:
            MachineFailed: it didn't within ``timeout`` seconds.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise MachineFailed(f"the machine was still on after {timeout:g} s", self.transcript) from error
        self._reader.join()
        return self.transcript

    def type(self, text: str) -> None:
        """Type on the serial port."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def turn_off(self) -> None:
        """Kill QEMU if it still runs, and reap it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        while chunk := self._output.read(4096):
            with self._news:
                self._said += chunk
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _text(self) -> str:
        return _CONTROL_SEQUENCE.sub("", self._said.decode(errors="replace"))


@contextmanager
def booted(
    disk: Path | None,
    *,
    firmware: Firmware = Firmware.BIOS,
    sector_size: int = 512,
    memory_mib: int = 768,
    keep: bool = False,
    secure_boot: bool = False,
    boot_uri: str = "",
    more: tuple[str, ...] = (),
) -> Iterator[Machine]:
    """Boot a raw disk in SeaBIOS or OVMF; the machine is off when the ``with`` ends, or when it restarts.

    Args:
        disk: an image file or a block device; None for a machine without one.
        firmware: what starts the machine.
        sector_size: the logical and physical sector size that the machine sees.
        memory_mib: its memory.
        secure_boot: whether OVMF starts signed loaders only.
        keep: what the machine writes stays on the disk; else it is forgotten.
        boot_uri: what OVMF fetches from a web server and boots, before the disk.
        more: further arguments for QEMU.
    """
    with ExitStack() as stack:
        arguments = [*EMULATED, "-m", str(memory_mib)]
        if disk is not None:
            sectors = f"logical_block_size={sector_size},physical_block_size={sector_size}"
            arguments += [
                *("-drive", f"if=none,id=disk,file={disk},format=raw,snapshot={'off' if keep else 'on'}"),
                *("-device", f"virtio-blk-pci,drive=disk,bootindex={DISK_BOOT_INDEX},{sectors}"),
            ]
        arguments += more
        if firmware is Firmware.UEFI:
            arguments += stack.enter_context(uefi(secure_boot=secure_boot, boot_uri=boot_uri))
        yield stack.enter_context(started(arguments))


@contextmanager
def uefi(*, secure_boot: bool = False, boot_uri: str = "") -> Iterator[list[str]]:
    """Give the arguments for a machine with OVMF whose variables are fresh, and forgotten when the ``with`` ends.

    With ``boot_uri`` it boots from there first, once.
    """
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        own = Path(folder, "variables.fd")
        shutil.copyfile(OVMF_SECURE_VARIABLES if secure_boot else OVMF_VARIABLES, own)
        if boot_uri:
            set_boot_uri(own, boot_uri)
        code = OVMF_SECURE_CODE if secure_boot else OVMF_CODE
        # Only system management mode may write the variables, else a system could turn Secure Boot off.
        secure = ("-global", "driver=cfi.pflash01,property=secure,value=on") if secure_boot else ()
        yield [
            *("-machine", "q35,smm=on" if secure_boot else "q35", *secure),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,format=raw,file={own}"),
        ]


def set_boot_uri(variables: Path, uri: str) -> None:
    """Make a file of OVMF's variables boot from a URI at the next start, as a controller does by Redfish."""
    # Beside this interpreter: it comes with a Python package of the tests.
    program = Path(sys.executable).with_name("virt-fw-vars")
    subprocess.run([str(program), "--inplace", str(variables), "--set-boot-uri", uri], check=True, capture_output=True)


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[Machine]:
    """Run QEMU with these arguments, its first serial port being ours; it is off when the ``with`` ends.

    If we are killed, so is QEMU.
    """
    argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nographic", "-no-reboot", "-nic", "none"]
    with subprocess.Popen(
        [*argv, "-serial", "stdio", "-monitor", "none", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        machine = Machine(process, process.stdout)
        try:
            yield machine
        finally:
            machine.turn_off()


@cache
def processor() -> tuple[str, ...]:
    """Return the arguments for the quickest processor that works: KVM's, or an emulated one.

    That /dev/kvm is there says little: under some hypervisors a guest never runs its first instruction, under others a
    boot sector runs and a kernel does not. So a whole firmware has to run, within seconds.
    """
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return EMULATED
    try:
        with uefi() as firmware, started([*NATIVE, "-m", "128", *firmware]) as machine:
            machine.wait_for(_PROBE, timeout=_PROBE_TIMEOUT)
    except MachineFailed:
        return EMULATED
    return NATIVE
