"""What a boot interface is asked for: a machine, the RAM disk that prepares it, and what it runs afterwards.

The words are Ironic's (specification "Boot Interface in Ironic"), where a ``task`` carries a node, its ports and its
``instance_info``. These are the few facts of them that booting needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, TypeAlias

from libironic_disk.errors import InvalidParameterValue, KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.roles import Architecture, Firmware

BootFile: TypeAlias = PurePath | str
"""A kernel, RAM disk or ISO: a file of this machine, or an ``http://``, ``https://`` or ``tftp://`` URL as text."""

NO_PARAMETERS: Final = KernelParameters()

_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_UUID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramdisk:
    """The system that deploys: its kernel, its RAM disk, and parameters that it always gets."""

    kernel: BootFile
    ramdisk: BootFile
    parameters: KernelParameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDisk:
    """The instance boots from the disk by itself: the firmware is to be set to the disk, and stay so.

    With ``network_fallback`` a machine whose firmware tries the network first all the same is sent on to its disk;
    else nothing is left for it there.
    """

    network_fallback: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDisk:
    """The machine always asks the network, which sends it on to its disk.

    ``disk_id`` says which of several disks, as :attr:`DeployResult.disk_id` gives it: ``0x1234abcd`` for an MBR's
    signature. Without it, it is the firmware's first. Only PXELINUX can look for it.
    """

    disk_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRoot:
    """The kernel and RAM disk come over the network, the root is the partition whose file system has ``root_uuid``."""

    kernel: BootFile
    ramdisk: BootFile
    root_uuid: str
    parameters: KernelParameters = NO_PARAMETERS

    def __post_init__(self) -> None:
        if not _UUID.fullmatch(self.root_uuid):
            raise InvalidParameterValue(problems=(f"root_uuid {self.root_uuid!r} is no file system's UUID",))

    @property
    def kernel_parameters(self) -> KernelParameters:
        """What the kernel gets: where its root is, which is mounted read-only first as ever, then the parameters."""
        return KernelParameters(words=(f"root=UUID={self.root_uuid}", "ro")) + self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class RamdiskInstance:
    """The instance is a RAM disk; ``config_drive`` is an ISO or FAT file system for a second device."""

    kernel: BootFile
    ramdisk: BootFile
    parameters: KernelParameters = NO_PARAMETERS
    config_drive: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoInstance:
    """The instance is an ISO.

    Attributes:
        iso: the user's own.
        parameters: what changes on every kernel line of it.
        files: put into it, by their paths.
        config_drive: an ISO or FAT file system for a second device.
        one_shot: the ISO is for the next boot only, and doesn't persist.
    """

    iso: BootFile
    parameters: ParameterChange = field(default_factory=ParameterChange)
    files: Mapping[str, bytes] = field(default_factory=dict)
    config_drive: bytes | None = None
    one_shot: bool = False


Instance: TypeAlias = LocalDisk | WholeDisk | NetworkRoot | RamdiskInstance | IsoInstance
"""What a machine runs once it is deployed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootTask:
    """One machine and what it should boot.

    Attributes:
        node: a UUID or a name. It becomes part of file names: letters, digits, dots, underscores and hyphens, at most
            63, the first a letter or a digit.
        macs: of the network cards that it may boot from. Virtual media need none.
        architecture: of its processor.
        firmware: Ironic's ``boot_mode``.
        secure_boot: whether its firmware starts signed loaders only.
        ramdisk: for ``prepare_ramdisk``.
        instance: for ``prepare_instance``.

    Raises:
        InvalidParameterValue: the node's name can't be one, a MAC address is there twice, or a BIOS should boot
            securely.
    """

    node: str
    macs: tuple[MacAddress, ...] = ()
    architecture: Architecture = Architecture.X86_64
    firmware: Firmware = Firmware.UEFI
    secure_boot: bool = False
    ramdisk: Ramdisk | None = None
    instance: Instance | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not _NODE.fullmatch(self.node):
            problems.append(f"the node's name {self.node!r} can't be part of a file name")
        if len(set(self.macs)) != len(self.macs):
            problems.append("a MAC address is given twice")
        if self.secure_boot and self.firmware is Firmware.BIOS:
            problems.append("secure_boot needs UEFI")
        if problems:
            raise InvalidParameterValue(problems=tuple(problems))


def boot_files_of(system: Ramdisk | Instance | None) -> tuple[BootFile, ...]:
    """Return the kernel and the RAM disk, or the ISO, that a system names; nothing of one that has its own disk."""
    match system:
        case Ramdisk() | NetworkRoot() | RamdiskInstance():
            return system.kernel, system.ramdisk
        case IsoInstance():
            return (system.iso,)
        case _:
            return ()


def as_parameters(ramdisk_params: Mapping[str, str | None]) -> KernelParameters:
    """Return Ironic's ``ramdisk_params`` in their order: ``key=value``, or ``key`` alone where the value is None.

    Raises:
        InvalidParameterValue: a key is empty or has a space or an equals sign, or a word is one that the kernel can't
            be given; with every such key.
    """
    words: list[str] = []
    problems: list[str] = []
    for key, value in ramdisk_params.items():
        word = key if value is None else f"{key}={value}"
        try:
            KernelParameters(words=(word,))
        except KernelParametersInvalid as error:
            problems.append(str(error))
        if not key or "=" in key or any(character.isspace() for character in key):
            problems.append(f"ramdisk parameter {key!r} has no name that the kernel could read")
        words.append(word)
    if problems:
        raise InvalidParameterValue(problems=tuple(problems))
    return KernelParameters(words=tuple(words))
