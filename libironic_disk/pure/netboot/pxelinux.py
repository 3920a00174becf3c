"""PXELINUX's configuration (syslinux 6: doc/syslinux.txt, doc/pxelinux.txt; its wiki's page "Comboot/chain.c32")."""

from __future__ import annotations

from typing import Final

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, rendered
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.choices import BootChoice, DiskBoot, IsoBoot, KernelBoot, with_interface

_HEAD: Final = ("DEFAULT boot", "PROMPT 0", "LABEL boot")


def render(choice: BootChoice, mac: MacAddress) -> str:
    """Return the configuration for one card.

    Paths are relative to the directory that PXELINUX was loaded from.

    Raises:
        KernelParametersInvalid: PXELINUX can't hand a parameter on.
        InvalidParameterValue: an ISO, which it can't boot.
    """
    lines: tuple[str, ...]
    match choice:
        case KernelBoot(kernel=kernel, ramdisk=ramdisk, parameters=parameters):
            words = rendered(with_interface(parameters, mac), LoaderSyntax.SYSLINUX)
            lines = (f"  LINUX {kernel}", f"  INITRD {ramdisk}", f"  APPEND {words}")
        case DiskBoot(signature=signature) if signature:
            lines = ("  COM32 chain.c32", f"  APPEND mbr:{signature}")
        case DiskBoot(first=True):
            lines = ("  COM32 chain.c32", "  APPEND hd0 0")
        case DiskBoot():
            # PXELINUX goes, and the firmware takes the next device of its order.
            lines = ("  LOCALBOOT 0",)
        case IsoBoot():
            reason = "PXELINUX can't boot an ISO over the network: use iPXE, UEFI HTTP boot or virtual media"
            raise InvalidParameterValue(problems=(reason,))
    return "\n".join((*_HEAD, *lines)) + "\n"
