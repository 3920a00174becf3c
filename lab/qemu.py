"""Machines to boot a disk in: QEMU without KVM, watched through its first serial port.

A machine is a ``with``: whatever happens inside, QEMU is killed by its pid and reaped, and nothing it wrote to the
disk stays.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from libironic_disk.pure.roles import Firmware

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78Mc])|[\x00\x07\x08\r]")
_SHOWN = 4000


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
    disk: Path,
    *,
    firmware: Firmware = Firmware.BIOS,
    sector_size: int = 512,
    memory_mib: int = 768,
    more: tuple[str, ...] = (),
) -> Iterator[Machine]:
    """Boot a raw disk in SeaBIOS or OVMF; the machine is off when the ``with`` ends.

    Args:
        disk: an image file or a block device, only read: what the machine writes is forgotten.
        firmware: what starts the machine.
        sector_size: the logical and physical sector size that the machine sees.
        memory_mib: its memory.
        more: further arguments for QEMU.
    """
    with ExitStack() as stack:
        arguments = [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1", "-m", str(memory_mib)),
            *("-nographic", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"),
            *("-drive", f"if=none,id=disk,file={disk},format=raw,snapshot=on"),
            "-device",
            f"virtio-blk-pci,drive=disk,bootindex=0,logical_block_size={sector_size},physical_block_size={sector_size}",
            *more,
        ]
        if firmware is Firmware.UEFI:
            own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="machine-")), "variables.fd")
            shutil.copyfile(OVMF_VARIABLES, own)
            arguments += [
                *("-machine", "q35"),
                *("-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}"),
                *("-drive", f"if=pflash,format=raw,file={own}"),
            ]
        process = stack.enter_context(
            subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
            )
        )
        assert process.stdout is not None
        machine = Machine(process, process.stdout)
        stack.callback(machine.turn_off)
        yield machine
