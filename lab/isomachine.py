"""A boot ISO in a machine: as a CD, or as a disk that it was written to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path

from lab.isolayouts import BOOTED
from lab.qemu import EMULATED, Machine, started, uefi
from libironic_disk.pure.roles import Firmware

# It takes 10; while others have the processors, 80 were seen.
_TIMEOUT = 300.0
_SAID = re.compile(rf"{BOOTED} <(.*)>")


class Medium(StrEnum):
    """As what the machine sees the image."""

    CD = "cd"
    """A SATA or IDE CD drive, as a management controller's virtual one."""
    USB = "usb"
    """A USB stick."""
    DISK = "disk"
    """A virtio disk."""


_DEVICES = {
    Medium.CD: ("-drive", "if=none,id=iso,media=cdrom,readonly=on,format=raw,file={}", "-device", "{cd}"),
    Medium.USB: (
        *("-drive", "if=none,id=iso,format=raw,snapshot=on,file={}"),
        *("-device", "qemu-xhci", "-device", "usb-storage,drive=iso,bootindex=0"),
    ),
    Medium.DISK: (
        *("-drive", "if=none,id=iso,format=raw,snapshot=on,file={}"),
        *("-device", "virtio-blk-pci,drive=iso,bootindex=0"),
    ),
}


@contextmanager
def inserted(
    iso: Path,
    firmware: Firmware,
    medium: Medium = Medium.CD,
    *,
    secure_boot: bool = False,
    memory_mib: int = 768,
    more: tuple[str, ...] = (),
) -> Iterator[Machine]:
    """Start a machine with nothing but the image in it; it is off when the ``with`` ends.

    Args:
        iso: the image; nothing is written to it.
        firmware: what starts the machine.
        medium: as what it sees the image.
        secure_boot: whether OVMF starts signed loaders only.
        memory_mib: its memory.
        more: further arguments for QEMU.
    """
    with ExitStack() as stack:
        # The default machine's drives are IDE ones, q35's SATA.
        device = "ide-cd,drive=iso,bootindex=0"
        arguments = [*EMULATED, "-m", str(memory_mib), *more]
        arguments += [word.replace("{cd}", device).replace("{}", str(iso)) for word in _DEVICES[medium]]
        if firmware is Firmware.UEFI:
            arguments += stack.enter_context(uefi(secure_boot=secure_boot))
        yield stack.enter_context(started(arguments))


def command_line(
    iso: Path,
    firmware: Firmware,
    medium: Medium = Medium.CD,
    *,
    secure_boot: bool = False,
    timeout: float = _TIMEOUT,
) -> str:
    """Boot an image whose system is :func:`lab.isolayouts.booting_system`, and return its ``/proc/cmdline``.

    The loader may have put words of its own before and behind the parameters (``BOOT_IMAGE=``, ``initrd=``); they are
    in it.

    Raises:
        MachineFailed: it didn't come up within ``timeout`` seconds.
    """
    with inserted(iso, firmware, medium, secure_boot=secure_boot) as machine:
        machine.wait_for(f"{BOOTED} <", timeout=timeout)
        said = machine.wait_until_off(timeout=timeout)
    found = _SAID.search(said)
    assert found is not None, "what it says goes on in the same line"
    return found[1]


def parameters_of(line: str) -> str:
    """Return a command line without what boot loaders add: ``BOOT_IMAGE=`` first, ``initrd=`` anywhere."""
    return " ".join(word for word in line.split(" ") if not word.startswith(("BOOT_IMAGE=", "initrd=")))
