"""How a machine boots, apart from what is deployed on it.

A controller chooses one :class:`~libironic_disk.boot.interface.BootInterface` for a machine and any deployment beside
it: neither knows the other.
"""

from libironic_disk.boot.httpboot import HTTPBoot, HttpLoader
from libironic_disk.boot.interface import BootInterface
from libironic_disk.boot.ipxe import IPXEBoot
from libironic_disk.boot.network import NetworkPlan
from libironic_disk.boot.pxe import PXEBoot
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
    "NetworkPlan",
    "NetworkRoot",
    "OptionName",
    "PXEBoot",
    "Prepared",
    "Ramdisk",
    "RamdiskInstance",
    "WholeDisk",
]
