"""How a machine boots, apart from what is deployed on it.

A controller chooses one :class:`~libironic_disk.boot.interface.BootInterface` for a machine and any deployment beside
it: neither knows the other. What talks to controllers by Redfish is in :mod:`libironic_disk.boot.redfish`, which needs
the extra ``redfish``.
"""

from libironic_disk.boot.httpboot import HTTPBoot, HttpLoader
from libironic_disk.boot.inserting import Patience
from libironic_disk.boot.interface import BootInterface
from libironic_disk.boot.ipxe import IPXEBoot
from libironic_disk.boot.media import MediaKind, Slot, VirtualMedia
from libironic_disk.boot.network import NetworkPlan
from libironic_disk.boot.publishing import DirectoryPublisher, Publisher
from libironic_disk.boot.pxe import PXEBoot
from libironic_disk.boot.readables import Readable
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.dhcp import Client, DhcpOption, IpVersion, OptionName
from libironic_disk.pure.netboot.loaders import (
    GrubImage,
    InstalledFile,
    LoaderKey,
    LoaderKind,
    Loaders,
    LoaderSet,
)
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import (
    BootFile,
    BootTask,
    Instance,
    IsoInstance,
    LocalDisk,
    NetworkRoot,
    Ramdisk,
    RamdiskInstance,
    WholeDisk,
)

__all__ = [
    "BootDevice",
    "BootFile",
    "BootInterface",
    "BootTask",
    "Client",
    "DhcpOption",
    "DirectoryPublisher",
    "GrubImage",
    "HTTPBoot",
    "HttpLoader",
    "IPXEBoot",
    "InstalledFile",
    "Instance",
    "IpVersion",
    "IsoInstance",
    "LoaderKey",
    "LoaderKind",
    "LoaderSet",
    "Loaders",
    "LocalDisk",
    "MacAddress",
    "MediaKind",
    "NetworkPlan",
    "NetworkRoot",
    "OptionName",
    "PXEBoot",
    "Patience",
    "Prepared",
    "Publisher",
    "Ramdisk",
    "RamdiskInstance",
    "Readable",
    "ServedMedia",
    "Slot",
    "VirtualMedia",
    "VirtualMediaBoot",
    "WholeDisk",
]
