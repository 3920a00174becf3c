"""What a boot interface answers: from which device the machine has to boot, and what a DHCP server has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.netboot.dhcp import DhcpOption


class BootDevice(StrEnum):
    """What the firmware is to boot from; the words are Ironic's."""

    DISK = "disk"
    PXE = "pxe"
    UEFI_HTTP = "uefihttp"
    CDROM = "cdrom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A boot that is prepared.

    Attributes:
        device: what the firmware has to boot from. Who talks to the machine's controller sets it.
        persistent: whether it stays so, or is for the next boot only.
        dhcp: the options that the machine has to be given; none where no DHCP server is involved.
        files: paths of what was published, from the root of the server.
        url: what the firmware has to be told to fetch, where it has to be.
    """

    device: BootDevice
    persistent: bool
    dhcp: tuple[DhcpOption, ...] = ()
    files: tuple[str, ...] = ()
    url: str | None = None
