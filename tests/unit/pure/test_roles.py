"""Types of partitions, as sfdisk's own list names them."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from libironic_disk.pure.roles import (
    ATTRIBUTE_BITS,
    Architecture,
    Attribute,
    Role,
    attribute_mask,
    gpt_type,
    mbr_type,
)
from tests.support.oracles import output


def listed(label: str) -> dict[str, str]:
    """What sfdisk knows, by type."""
    lines = output("sfdisk", "--label", label, "--list-types").splitlines()
    matches = (re.fullmatch(r"\s*(\S+)\s+(.+?)\s*", line) for line in lines)
    return {match[1].lower(): match[2] for match in matches if match}


@pytest.mark.parametrize(
    ("role", "architecture", "mount_point", "name"),
    [
        (Role.ESP, Architecture.X86_64, None, "EFI System"),
        (Role.BIOS_BOOT, Architecture.X86_64, None, "BIOS boot"),
        (Role.PREP, Architecture.PPC64LE, None, "PowerPC PReP boot"),
        (Role.SWAP, Architecture.X86_64, None, "Linux swap"),
        (Role.MULTIBOOT, Architecture.X86_64, None, "Linux filesystem"),
        (Role.EPHEMERAL, Architecture.X86_64, None, "Linux filesystem"),
        (Role.CONFIG_DRIVE, Architecture.X86_64, None, "Linux filesystem"),
        (Role.DATA, Architecture.X86_64, None, "Linux filesystem"),
        (Role.DATA, Architecture.X86_64, "/data", "Linux filesystem"),
        (Role.DATA, Architecture.X86_64, "/home", "Linux home"),
        (Role.DATA, Architecture.X86_64, "/srv", "Linux server data"),
        (Role.DATA, Architecture.X86_64, "/tmp", "Linux temporary data"),
        (Role.ROOT, Architecture.X86_64, None, "Linux root (x86-64)"),
        (Role.ROOT, Architecture.AARCH64, None, "Linux root (ARM-64)"),
        (Role.ROOT, Architecture.PPC64LE, None, "Linux root (PPC64LE)"),
        (Role.ROOT, Architecture.RISCV64, None, "Linux root (RISC-V-64)"),
        (Role.ROOT, Architecture.S390X, None, "Linux root (S390X)"),
    ],
)
def test_sfdisk_calls_the_types_on_a_gpt_what_they_are_for(
    role: Role, architecture: Architecture, mount_point: str | None, name: str
) -> None:
    assert listed("gpt")[str(gpt_type(role, architecture, mount_point))] == name


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (Role.ESP, "EFI (FAT-12/16/32)"),
        (Role.PREP, "PPC PReP Boot"),
        (Role.SWAP, "Linux swap / Solaris"),
        (Role.ROOT, "Linux"),
        (Role.EPHEMERAL, "Linux"),
        (Role.CONFIG_DRIVE, "Linux"),
        (Role.MULTIBOOT, "Linux"),
        (Role.DATA, "Linux"),
    ],
)
def test_sfdisk_calls_the_types_on_an_mbr_what_they_are_for(role: Role, name: str) -> None:
    assert listed("dos")[f"{mbr_type(role):x}"] == name


def test_every_role_has_a_type_on_every_architecture() -> None:
    types = {(role, arch): gpt_type(role, arch, None) for role in Role for arch in Architecture}
    assert UUID(int=0) not in types.values()
    assert len({types[Role.ROOT, arch] for arch in Architecture}) == len(Architecture)


@pytest.mark.parametrize(
    ("attributes", "mask"),
    [
        (frozenset(), 0),
        (frozenset({Attribute.REQUIRED}), 1),
        (frozenset({Attribute.LEGACY_BIOS_BOOTABLE}), 4),
        (frozenset({Attribute.GROW_FILE_SYSTEM, Attribute.NO_AUTO}), 1 << 59 | 1 << 63),
        (frozenset(Attribute), 1 | 4 | 1 << 59 | 1 << 60 | 1 << 63),
    ],
)
def test_attributes_become_bits(attributes: frozenset[Attribute], mask: int) -> None:
    assert attribute_mask(attributes) == mask


def test_every_attribute_has_a_bit_of_its_own() -> None:
    assert set(ATTRIBUTE_BITS) == set(Attribute)
    assert len(set(ATTRIBUTE_BITS.values())) == len(Attribute)
