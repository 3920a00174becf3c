"""What a partition is for, and what that means in each kind of table.

Type GUIDs follow the Discoverable Partitions Specification (UAPI group), the firmware's own follow UEFI 2.10 section
5.3.3, GRUB's manual ("BIOS installation") and the PowerPC platform's PReP partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from uuid import UUID


class Role(StrEnum):
    """What a partition is for."""

    ESP = "esp"
    BIOS_BOOT = "bios-boot"
    PREP = "prep"
    MULTIBOOT = "multiboot"
    EPHEMERAL = "ephemeral"
    SWAP = "swap"
    CONFIG_DRIVE = "config-drive"
    ROOT = "root"
    DATA = "data"
    LVM = "lvm"
    RAID = "raid"


class Firmware(StrEnum):
    """What starts the machine; Ironic's ``boot_mode``."""

    BIOS = "bios"
    UEFI = "uefi"


class Architecture(StrEnum):
    """Processor architectures with a root partition type of their own."""

    AARCH64 = "aarch64"
    PPC64LE = "ppc64le"
    RISCV64 = "riscv64"
    S390X = "s390x"
    X86_64 = "x86_64"


class Attribute(StrEnum):
    """Attribute bits of a GPT entry: UEFI's common ones and the Discoverable Partitions Specification's."""

    REQUIRED = "required"
    LEGACY_BIOS_BOOTABLE = "legacy-bios-bootable"
    GROW_FILE_SYSTEM = "grow-file-system"
    READ_ONLY = "read-only"
    NO_AUTO = "no-auto"


ATTRIBUTE_BITS: Final[Mapping[Attribute, int]] = {
    Attribute.REQUIRED: 0,
    Attribute.LEGACY_BIOS_BOOTABLE: 2,
    Attribute.GROW_FILE_SYSTEM: 59,
    Attribute.READ_ONLY: 60,
    Attribute.NO_AUTO: 63,
}

_LINUX_DATA: Final = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

_GPT_TYPES: Final[Mapping[Role, UUID]] = {
    Role.ESP: UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    Role.BIOS_BOOT: UUID("21686148-6449-6e6f-744e-656564454649"),
    Role.PREP: UUID("9e1a2d38-c612-4316-aa26-8b49521e5a8b"),
    Role.SWAP: UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    # Not XBOOTLDR, although it too is a boot partition that systems share: systemd would mount it in each of them.
    Role.MULTIBOOT: _LINUX_DATA,
    Role.EPHEMERAL: _LINUX_DATA,
    Role.CONFIG_DRIVE: _LINUX_DATA,
    Role.DATA: _LINUX_DATA,
    Role.LVM: UUID("e6d6d379-f507-44c2-a23c-238f2a3df928"),
    Role.RAID: UUID("a19d880f-05fc-4d3b-a006-743f0f84911e"),
}

_ROOT_TYPES: Final[Mapping[Architecture, UUID]] = {
    Architecture.AARCH64: UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
    Architecture.PPC64LE: UUID("c31c45e6-3f39-412e-80fb-4809c4980599"),
    Architecture.RISCV64: UUID("72ec70a6-cf74-40e6-bd49-4bda08e8f224"),
    Architecture.S390X: UUID("5eead9a9-fe09-4a1e-a1d7-520d00531306"),
    Architecture.X86_64: UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
}

_MOUNT_POINT_TYPES: Final[Mapping[str, UUID]] = {
    "/home": UUID("933ac7e1-2eb4-4f13-b844-0e14e2aef915"),
    "/srv": UUID("3b8f8425-20e0-4f3b-907f-1a25a76f98e8"),
    "/tmp": UUID("7ec6f557-3bc5-4aca-b293-16ef5df639d1"),  # noqa: S108 - a mount point, not a temporary file
}

_MBR_TYPES: Final[Mapping[Role, int]] = {
    Role.ESP: 0xEF,
    Role.PREP: 0x41,
    Role.SWAP: 0x82,
    Role.LVM: 0x8E,
    Role.RAID: 0xFD,
}
_MBR_LINUX: Final = 0x83


def gpt_type(role: Role, architecture: Architecture, mount_point: str | None) -> UUID:
    """Return the type GUID for a partition of ``role`` on a machine of ``architecture``."""
    if role is Role.ROOT:
        return _ROOT_TYPES[architecture]
    if role is Role.DATA and mount_point is not None:
        return _MOUNT_POINT_TYPES.get(mount_point, _LINUX_DATA)
    return _GPT_TYPES[role]


def mbr_type(role: Role) -> int:
    """Return the one-byte partition type for a partition of ``role``."""
    return _MBR_TYPES.get(role, _MBR_LINUX)


def attribute_mask(attributes: frozenset[Attribute]) -> int:
    """Return the 64-bit attribute field of a GPT entry."""
    return sum(1 << ATTRIBUTE_BITS[attribute] for attribute in attributes)
