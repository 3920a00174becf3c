"""GRUB's configuration for a machine that has loaded it over the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, grub_quoted, rendered
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.choices import BootChoice, DiskBoot, IsoBoot, KernelBoot, with_interface
from libironic_disk.pure.netboot.names import GRUB_CONFIG, GRUB_DIRECTORY
from libironic_disk.pure.roles import Architecture

_CARDS: Final = 8
_ADDRESSES: Final = " ".join(('"$net_default_mac"', *(f'"$net_efinet{number}_dhcp_mac"' for number in range(_CARDS))))
DISPATCH: Final = f"""\
# Each machine has its own configuration, by the MAC address of the card that it booted from. Where GRUB has asked DHCP
# itself, it knows no such card: then it is the first that has a configuration.
for mac in {_ADDRESSES}; do
  if [ -n "$mac" ]; then configfile "$prefix/by-mac/$mac"; fi
done
exit
"""
"""The ``grub.cfg`` that every GRUB reads."""

TFTP_EARLY_CONFIG: Final = f"set prefix=($root)/{GRUB_DIRECTORY}\nconfigfile $prefix/grub.cfg\n"
"""Inside an image for TFTP; the firmware has set up the network, and GRUB's root is the server that it came from."""

_LOADER: Final = {Architecture.X86_64: "X64", Architecture.AARCH64: "AA64"}
# In this order: where a loader is found without being told (UEFI 2.10 section 3.5.1.1), then where systems put their
# own. Shims before what they lead to: only they are taken by every firmware with Secure Boot.
_VENDORS: Final = ("debian", "ubuntu", "redhat", "centos", "rocky", "almalinux", "fedora", "opensuse", "sles")


def render(choice: BootChoice, mac: MacAddress, architecture: Architecture) -> str:
    """Return the configuration for one card.

    Kernel and RAM disk are paths on the server that GRUB came from, from its root.

    Raises:
        KernelParametersInvalid: GRUB can't hand a parameter on.
        InvalidParameterValue: an ISO, which it can't boot, or a disk by its signature.
    """
    match choice:
        case KernelBoot(kernel=kernel, ramdisk=ramdisk, parameters=parameters):
            words = rendered(with_interface(parameters, mac), LoaderSyntax.GRUB)
            return "\n".join((f"linux {_path(kernel)} {words}", f"initrd {_path(ramdisk)}", "boot", ""))
        case DiskBoot(signature=signature) if signature:
            raise InvalidParameterValue(problems=("GRUB can't look for a disk by its identifier",))
        case DiskBoot():
            return disk_config(architecture)
        case IsoBoot():
            raise InvalidParameterValue(problems=("GRUB can't boot an ISO over the network",))


def _path(path: str) -> str:
    return grub_quoted(f"/{path.lstrip('/')}")


def disk_config(architecture: Architecture) -> str:
    """Return the lines that start the first loader found on an EFI system partition of the machine.

    They need nothing of GRUB's script language, so they may be inside an image too: a command that fails is passed
    over. ``exit`` is no way to the disk: GRUB says by it that it has booted, upon which EDK II shows its setup menu.
    """
    return "\n".join(_disk_lines(architecture)) + "\n"


def _disk_lines(architecture: Architecture) -> Iterator[str]:
    suffix = _LOADER[architecture]
    yield from _start(f"/EFI/BOOT/BOOT{suffix}.EFI")
    for name in ("shim", "grub"):
        for vendor in _VENDORS:
            yield from _start(f"/EFI/{vendor}/{name}{suffix.lower()}.efi")
    yield from _start("/EFI/Microsoft/Boot/bootmgfw.efi")
    yield "exit"


def _start(path: str) -> tuple[str, ...]:
    return (f"search --no-floppy --file --set=root {path}", f"chainloader {path}", "boot")


def http_early_config(url: str) -> str:
    """Return the lines inside an image that is loaded by UEFI HTTP boot from the server at ``url``.

    GRUB 2.06 takes over the network from a firmware that booted by PXE and from no other: it has to ask DHCP itself.

    Raises:
        InvalidParameterValue: GRUB can't speak the URL's scheme.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise InvalidParameterValue(problems=(f"GRUB can't fetch from {url}: it knows http alone",))
    place = f"(http,{parts.netloc}){parts.path.rstrip('/')}"
    lines = ("net_bootp", f"set root=http,{parts.netloc}", f"set prefix={place}/{GRUB_DIRECTORY}")
    return "\n".join((*lines, f"configfile {place}/{GRUB_CONFIG}", ""))
