from __future__ import annotations

import pytest

from libironic_disk.machine.boot.grub_directory import Systems, entries
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.kernels import Kernel
from libironic_disk.pure.boot.loadersyntax import MAX_COMMAND_LINE

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"


def lines(found: Systems, parameters: str) -> list[tuple[str, str]]:
    made = entries(found, root_uuid=UUID, root_partuuid="p-1", parameters=KernelParameters.parse(parameters))
    return [(entry.title, str(entry.parameters)) for entry in made]


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ("quiet", f"root=UUID={UUID} ro quiet"),
        ("rw quiet", f"root=UUID={UUID} rw quiet"),
        ("quiet ro", f"root=UUID={UUID} quiet ro"),
        ("quiet root=/dev/vda1", "ro quiet root=/dev/vda1"),
        ("rootwait rootflags=x", f"root=UUID={UUID} ro rootwait rootflags=x"),
    ],
)
def test_the_callers_root_and_mode_take_the_place_of_ours(parameters: str, line: str) -> None:
    kernel = Kernel(version="6.1", name="vmlinuz-6.1", initrd="initrd.img-6.1")
    assert lines(Systems(name="Debian", kernels=(kernel,)), parameters) == [("Debian", line)]


def test_only_the_newest_has_the_bare_name_and_no_initrd_means_partuuid() -> None:
    kernels = (Kernel(version="2", name="vmlinuz-2", initrd=""), Kernel(version="1", name="vmlinuz-1", initrd="i"))
    assert lines(Systems(name="Debian", kernels=kernels), "") == [
        ("Debian", "root=PARTUUID=p-1 ro"),
        ("Debian, with Linux 1", f"root=UUID={UUID} ro"),
    ]


def test_what_planning_accepts_fits_with_the_longest_version() -> None:
    version = "1" * 128
    kernel = Kernel(version=version, name=f"vmlinuz-{version}", initrd="i")
    [(_, line)] = lines(Systems(name="", kernels=(kernel,)), "x" * (MAX_COMMAND_LINE - 256))
    assert len(f"BOOT_IMAGE=/boot/vmlinuz-{version} {line}") <= MAX_COMMAND_LINE
