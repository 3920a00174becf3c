"""iPXE's scripts (ipxe.org/scripting, ipxe.org/cmd)."""

from __future__ import annotations

from typing import Final

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, rendered
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.choices import BootChoice, DiskBoot, IsoBoot, KernelBoot, with_interface
from libironic_disk.pure.roles import Firmware

_TRIES: Final = 5
_LOADED: Final = "ramdisk"
"""What iPXE calls the RAM disk in its memory. Under UEFI the kernel asks for it by this name (initrd=)."""

DISPATCH: Final = """\
#!ipxe
# Each machine has its own script, by the MAC address of the card that it booted from.
chain --autofree ipxe/${netX/mac:hexhyp}.ipxe || goto unknown
exit
:unknown
echo No boot is prepared for ${netX/mac}
exit 1
"""
"""The script that DHCP names; what it loads is beside it."""


def render(choice: BootChoice, mac: MacAddress, firmware: Firmware, *, disk_loader: str) -> str:
    """Return the script for one card.

    Args:
        choice: what it boots; kernel and RAM disk are URLs.
        mac: of the card.
        firmware: under UEFI, iPXE can't start a disk by itself.
        disk_loader: URL of an EFI program that can.

    Raises:
        KernelParametersInvalid: iPXE can't hand a parameter on.
        InvalidParameterValue: a disk by its signature, which it can't look for.
    """
    match choice:
        case KernelBoot():
            return _kernel_script(choice, mac)
        case IsoBoot(url=url):
            return _script(f"sanboot {url} || goto failed")
        case DiskBoot(signature=signature) if signature:
            raise InvalidParameterValue(problems=("iPXE can't look for a disk by its identifier",))
        case DiskBoot() if firmware is Firmware.BIOS:
            return "#!ipxe\nsanboot --no-describe --drive 0x80 || exit 1\n"
        case DiskBoot():
            return f"#!ipxe\nchain --autofree {disk_loader} || exit 1\nexit 1\n"


def _kernel_script(boot: KernelBoot, mac: MacAddress) -> str:
    named = KernelParameters(words=(f"initrd={_LOADED}",))
    words = rendered(named + with_interface(boot.parameters, mac), LoaderSyntax.IPXE)
    return _script(
        f"kernel {boot.kernel} {words} || goto failed",
        f"initrd --name {_LOADED} {boot.ramdisk} || goto failed",
        "boot || goto failed",
    )


def _script(*commands: str) -> str:
    """Try several times, then turn the machine off: on its disk is what should be replaced, so that must not boot."""
    lines = (
        "#!ipxe",
        "set tries:int32 0",
        ":again",
        "imgfree",
        *commands,
        ":failed",
        "inc tries",
        f"iseq ${{tries}} {_TRIES} && goto give_up ||",
        "echo Trying again in 5 seconds",
        "sleep 5",
        "goto again",
        ":give_up",
        "echo Nothing could be booted; the machine is turned off in 30 seconds",
        "sleep 30",
        "poweroff || reboot",
    )
    return "\n".join(lines) + "\n"
