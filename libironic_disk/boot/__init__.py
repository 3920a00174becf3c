"""How a machine boots, apart from what is deployed on it.

A controller chooses one :class:`~libironic_disk.boot.interface.BootInterface` for a machine and any deployment beside
it: neither knows the other.
"""

from libironic_disk.boot.interface import BootInterface
from libironic_disk.pure.netboot.addresses import MacAddress
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
    "Instance",
    "IsoInstance",
    "LocalDisk",
    "MacAddress",
    "NetworkRoot",
    "Prepared",
    "Ramdisk",
    "RamdiskInstance",
    "WholeDisk",
]
