"""Where things are below the root: names by which loaders ask for them, and names of our own.

PXELINUX asks for ``pxelinux.cfg/`` and the machine's UUID, then the card's hardware type and MAC address with hyphens,
then its IP address in hexadecimal digits, then ``default`` (doc/pxelinux.txt). GRUB 2.06 made with a TFTP prefix asks
for ``grub.cfg-01-`` with the MAC address before ``grub.cfg`` (grub-core/net/net.c, grub_net_search_config_file); what
distributions sign asks for ``grub.cfg`` alone, and ours there goes on by the MAC address. iPXE asks for what DHCP says:
a script that goes on by the MAC address.

Only names by MAC address are written: nothing else says for sure which machine asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from libironic_disk.pure.netboot.addresses import MacAddress

NODES: Final = "nodes"
STATE: Final = ".libironic_disk"
"""What this library has to remember; nobody else can read it."""
GRUB_DIRECTORY: Final = "grub"
GRUB_CONFIG: Final = f"{GRUB_DIRECTORY}/grub.cfg"
IPXE_SCRIPT: Final = "boot.ipxe"
KERNEL: Final = "kernel"
RAMDISK: Final = "ramdisk"
ISO: Final = "image.iso"


class Purpose(StrEnum):
    """For which of a machine's two lives a boot is prepared."""

    RAMDISK = "ramdisk"
    INSTANCE = "instance"


def pxelinux_configs(macs: Iterable[MacAddress]) -> dict[str, MacAddress]:
    """Return the paths of PXELINUX's configurations."""
    return {f"pxelinux.cfg/{mac.with_type}": mac for mac in macs}


def grub_configs(macs: Iterable[MacAddress]) -> dict[str, MacAddress]:
    """Return the paths of GRUB's configurations: the one that it may ask for, and the one that ours goes on to."""
    return {path: mac for mac in macs for path in (f"{GRUB_CONFIG}-{mac.with_type}", f"{GRUB_DIRECTORY}/by-mac/{mac}")}


def ipxe_scripts(macs: Iterable[MacAddress]) -> dict[str, MacAddress]:
    """Return the paths of iPXE's scripts."""
    return {f"ipxe/{mac.hyphenated}.ipxe": mac for mac in macs}


def node_directory(node: str) -> str:
    """Return the directory with a machine's own kernels, RAM disks and ISOs."""
    return f"{NODES}/{node}"
