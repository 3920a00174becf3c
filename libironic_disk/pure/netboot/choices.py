"""What a boot loader is told, before anybody writes it down in that loader's language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.netboot.addresses import MacAddress

BOOTIF = "BOOTIF"
"""The kernel parameter that says from which network card the machine has booted: its hardware type and address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBoot:
    """A kernel with its RAM disk; both as the loader has to name them: a path or a URL."""

    kernel: str
    ramdisk: str
    parameters: KernelParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskBoot:
    """The machine's own disk: the firmware's next, the first with ``first``, or the one with ``signature``."""

    first: bool = False
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoBoot:
    """An ISO at a URL."""

    url: str


BootChoice: TypeAlias = KernelBoot | DiskBoot | IsoBoot
"""What a machine boots."""


def with_interface(parameters: KernelParameters, mac: MacAddress) -> KernelParameters:
    """Return parameters with BOOTIF for a card; parameters that have one keep it."""
    if BOOTIF in parameters:
        return parameters
    return parameters + KernelParameters(words=(f"{BOOTIF}={mac.with_type}",))
