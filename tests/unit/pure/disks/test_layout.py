"""What a layout may say: every contradiction is found, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import LABEL_BYTES, MOST_PARTITIONS, SMALLEST, FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.presets import bios_boot, config_drive, ephemeral, esp, ironic_layout, root, swap
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, mib
from libironic_disk.pure.roles import Architecture, Attribute, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB, KIB, MIB

GPT, MBR = TableKind.GPT, TableKind.MBR
LARGE = mib(400)


def data(name: str = "data", *, filesystem: FileSystem | None = None, label: str = "") -> PartitionSpec:
    return PartitionSpec(role=Role.DATA, name=name, size=LARGE, filesystem=filesystem, label=label)


def problems_of(*specs: PartitionSpec, table: TableKind = GPT) -> list[str]:
    with pytest.raises(LayoutInvalid) as refused:
        Layout(table=table, partitions=specs).check()
    return list(refused.value.problems)


def accept(*specs: PartitionSpec, table: TableKind = GPT) -> None:
    Layout(table=table, partitions=specs).check()


def test_every_defect_is_told_at_once() -> None:
    found = problems_of(
        replace(swap(mib(0)), filesystem=FileSystem.EXT4),
        replace(root(Remaining(maximum=5)), attributes=frozenset({Attribute.NO_AUTO})),
        replace(root(), name="a name"),
        PartitionSpec(role=Role.DATA, name="volume", size=Percent(share=200), label="x", mount_point="home"),
        PartitionSpec(role=Role.DATA, name="volume", size=mib(64), filesystem=FileSystem.XFS, label="\t", keep=False),
        replace(bios_boot(), keep=True),
        table=MBR,
    )
    assert found == [
        "partition 'swap': a size of 0 bytes: it must be positive",
        "partition 'swap': a swap partition needs the file system swap",
        "partition 'root': a maximum of 5 bytes below the minimum of 1048576",
        "partition 'root': an MBR has no attribute bits",
        "partition 'a name': its name may have up to 36 letters, digits, dots, dashes and underscores",
        "partition 'volume': 200% is not more than 0 and at most 100",
        "partition 'volume': it has a label but no file system to carry it",
        "partition 'volume': 'home' is not an absolute path without white space",
        "partition 'volume': '\\t' is no usable label",
        "partition 'volume': 67108864 bytes are too few for xfs, which needs 300 MiB",
        "partition 'bios-boot': an MBR has no BIOS boot partition: GRUB lives in the gap before the first partition",
        "partition 'bios-boot': a partition with the role bios-boot can't be kept, only ephemeral and data volumes",
        "2 partitions are named 'volume'",
        "2 partitions have the role root",
        "partition 'root': 2 partitions claim what remains; each of them needs a weight",
        "partition 'a name': 2 partitions claim what remains; each of them needs a weight",
    ]


def test_a_layout_without_partitions_is_refused() -> None:
    assert problems_of() == ["it has no partitions"]


@pytest.mark.parametrize("table", list(TableKind))
def test_what_ironic_asks_for_is_accepted(table: TableKind) -> None:
    firmware = (esp(), bios_boot()) if table is GPT else (esp(),)
    accept(*firmware, ephemeral(mib(20 * KIB)), swap(mib(512)), config_drive(1), root(), table=table)


@pytest.mark.parametrize("role", [Role.ESP, Role.BIOS_BOOT, Role.PREP, Role.MULTIBOOT, Role.CONFIG_DRIVE, Role.ROOT])
def test_some_roles_exist_once(role: Role) -> None:
    spec = PartitionSpec(role=role, size=LARGE, filesystem=FileSystem.VFAT if role is Role.ESP else None)
    accept(spec)
    assert problems_of(spec, replace(spec, name="other")) == [f"2 partitions have the role {role}"]


def test_others_may_exist_often() -> None:
    accept(
        *(replace(swap(LARGE), name=f"swap{at}") for at in range(3)),
        *(replace(ephemeral(LARGE), name=f"ephemeral{at}") for at in range(3)),
        *(data(f"data{at}") for at in range(3)),
    )


@pytest.mark.parametrize("name", ["", "a", "A" * 36, "root-1_x.y", "0"])
def test_a_name_needs_no_quoting(name: str) -> None:
    accept(replace(data(), name=name) if name else data())


@pytest.mark.parametrize("name", ["A" * 37, "a b", "größe", "-x", ".x", "_x", "a/b", "a\n", "a'b", "$x", "\ud800"])
def test_a_name_that_would_need_quoting_is_refused(name: str) -> None:
    assert "its name may have" in "".join(problems_of(data(name)))


def test_a_partition_is_called_by_its_role_unless_it_has_a_name() -> None:
    assert PartitionSpec(role=Role.CONFIG_DRIVE, size=LARGE).name == "config-drive"
    assert data("srv").name == "srv"


@pytest.mark.parametrize("filesystem", sorted(FileSystem))
def test_a_label_may_fill_what_its_file_system_has_and_no_more(filesystem: FileSystem) -> None:
    spec = swap(LARGE) if filesystem is FileSystem.SWAP else data(filesystem=filesystem)
    room = LABEL_BYTES[filesystem]
    accept(replace(spec, label="x" * room))
    too_long = f"is longer than the {room} bytes that {filesystem} has"
    assert too_long in problems_of(replace(spec, label="x" * (room + 1)))[0]
    if filesystem is not FileSystem.VFAT:
        # Bytes count, not characters.
        assert too_long in problems_of(replace(spec, label="é" * (room // 2 + 1)))[0]


@pytest.mark.parametrize("label", [" x", "x ", "-L", "a\tb", "a\nb", "a\0b", "\x7f", "\u200b", "\ud800", "\u00a0"])
@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.VFAT])
def test_a_label_that_would_not_read_back_is_refused(label: str, filesystem: FileSystem) -> None:
    assert "is no usable label" in problems_of(data(filesystem=filesystem, label=label))[0]


@pytest.mark.parametrize("label", ["größe", *(f"a{character}b" for character in '*?.,;:/\\|+=<>[]"'), "NO NAME"])
def test_a_label_that_fat_can_not_have_is_refused_for_fat_alone(label: str) -> None:
    assert "is no label for vfat" in problems_of(data(filesystem=FileSystem.VFAT, label=label))[0]
    accept(data(filesystem=FileSystem.EXT4, label=label))


@pytest.mark.parametrize("filesystem", sorted(FileSystem))
def test_a_file_system_has_the_room_it_needs(filesystem: FileSystem) -> None:
    spec = swap(LARGE) if filesystem is FileSystem.SWAP else data(filesystem=filesystem)
    least = SMALLEST[filesystem]
    accept(replace(spec, size=Exact(size=least)))
    (problem,) = problems_of(replace(spec, size=Exact(size=least - 1)))
    assert problem.startswith(f"partition {spec.name!r}: {least - 1} bytes are too few for {filesystem}, which needs ")
    assert "MiB" in problem or "KiB" in problem


def test_a_volume_that_is_kept_needs_no_room_for_a_new_file_system() -> None:
    accept(ephemeral(mib(1), FileSystem.XFS, keep=True))


def test_a_partition_that_stays_blank_may_have_any_size() -> None:
    accept(replace(data(), size=Exact(size=1)))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (PartitionSpec(role=Role.SWAP, size=LARGE), "a swap partition needs the file system swap"),
        (PartitionSpec(role=Role.ESP, size=LARGE), "needs the file system vfat"),
        (replace(esp(), filesystem=FileSystem.EXT4), "needs the file system vfat"),
        (replace(bios_boot(), size=LARGE, filesystem=FileSystem.EXT4), "has no file system"),
        (PartitionSpec(role=Role.PREP, size=LARGE, filesystem=FileSystem.VFAT), "has no file system"),
        (data(filesystem=FileSystem.SWAP), "swap is made on partitions with the role swap alone"),
        (data(label="x"), "no file system to carry it"),
        (replace(root(), mount_point="/"), "only data volumes have a mount point"),
        (replace(root(), keep=True), "can't be kept"),
        (replace(esp(), keep=True), "can't be kept"),
    ],
)
def test_what_does_not_suit_a_role_is_refused(spec: PartitionSpec, problem: str) -> None:
    (found,) = problems_of(spec)
    assert problem in found


@pytest.mark.parametrize("mount_point", ["/", "/home", "/srv/data", "/größe"])
def test_a_mount_point_is_an_absolute_path(mount_point: str) -> None:
    accept(replace(data(), mount_point=mount_point))


@pytest.mark.parametrize("mount_point", ["", "home", "/home/", "//home", "/a b", "/a\nb", "/a\0b", "./x"])
def test_what_is_no_mount_point_is_refused(mount_point: str) -> None:
    assert "is not an absolute path" in problems_of(replace(data(), mount_point=mount_point))[0]


def test_two_volumes_are_not_mounted_at_the_same_place() -> None:
    one, other = (replace(data(name), mount_point="/srv") for name in ("a", "b"))
    assert problems_of(one, other) == ["2 partitions are mounted at /srv"]


@pytest.mark.parametrize("table", list(TableKind))
def test_a_table_has_room_for_so_many_partitions(table: TableKind) -> None:
    most = MOST_PARTITIONS[table]
    specs = [replace(data(f"d{at}"), size=Exact(size=MIB)) for at in range(most + 1)]
    accept(*specs[:-1], table=table)
    (problem,) = problems_of(*specs, table=table)
    assert problem == f"{most + 1} partitions are more than the {most} that a table of kind {table} has"


def test_only_one_partition_takes_what_remains_unless_all_have_a_weight() -> None:
    one, other, third = (replace(data(name), size=Remaining(weight=3)) for name in ("a", "b", "c"))
    accept(replace(one, size=Remaining()))
    accept(one, other, third)
    assert problems_of(replace(one, size=Remaining()), other, third) == [
        "partition 'a': 3 partitions claim what remains; each of them needs a weight"
    ]


def test_attributes_belong_to_a_gpt() -> None:
    spec = replace(root(mib(GIB // MIB)), attributes=frozenset({Attribute.GROW_FILE_SYSTEM}))
    accept(spec, table=GPT)
    assert problems_of(spec, table=MBR) == ["partition 'root': an MBR has no attribute bits"]


# What a caller without a type checker does.
untyped_spec = cast("Callable[..., PartitionSpec]", PartitionSpec)
untyped_layout = cast("Callable[..., Layout]", Layout)
untyped_preset = cast("Callable[..., Layout]", ironic_layout)


def test_words_are_as_good_as_members() -> None:
    spec = untyped_spec(role="data", size=LARGE, filesystem="ext4", attributes=["no-auto"])
    assert spec.role is Role.DATA
    assert spec.filesystem is FileSystem.EXT4
    assert [type(each) for each in spec.attributes] == [Attribute]
    layout = untyped_layout(table="mbr", partitions=[root()], architecture="aarch64")
    assert layout.table is MBR
    assert layout.architecture is Architecture.AARCH64
    assert layout == Layout(table=MBR, partitions=(root(),), architecture=Architecture.AARCH64)


def test_the_preset_takes_words() -> None:
    words = untyped_preset(firmware="bios", table="gpt", architecture="x86_64", root_mb=400)
    assert [spec.role for spec in words.partitions] == [Role.BIOS_BOOT, Role.ROOT]
    assert words.table is GPT


@pytest.mark.parametrize(
    ("make", "values", "problems"),
    [
        (
            untyped_spec,
            {"role": "rot", "size": "20 GiB", "filesystem": "zfs", "attributes": "no-auto", "keep": 1},
            (
                "role is 'rot': it must be one of esp, bios-boot, prep, multiboot, ephemeral, swap, config-drive, "
                "root, data, lvm, raid",
                "size is a str: it must be an Exact or Percent or Remaining",
                "filesystem is 'zfs': it must be one of btrfs, ext2, ext3, ext4, swap, vfat, xfs",
                "attributes is a str: it must be a frozenset",
                "keep is an int: it must be a bool",
            ),
        ),
        (
            untyped_layout,
            {"table": "msdos", "partitions": [{}], "architecture": "arm", "seed": "s"},
            (
                "table is 'msdos': it must be one of gpt, mbr",
                "each of partitions is a dict: it must be a PartitionSpec",
                "architecture is 'arm': it must be one of aarch64, ppc64le, riscv64, s390x, x86_64",
                "seed is a str: it must be a bytes",
            ),
        ),
        (untyped_preset, {"table": "dos"}, ("table is 'dos': it must be one of gpt, mbr",)),
        (untyped_preset, {"table": ""}, ("table is '': it must be one of gpt, mbr",)),
        (untyped_preset, {"firmware": "efi"}, ("firmware is 'efi': it must be one of bios, uefi",)),
        (untyped_preset, {"swap_mb": "5"}, ("swap_mb is a str: it must be an int",)),
        (untyped_preset, {"root_mb": True}, ("root_mb is a bool: it must be an int",)),
        (untyped_preset, {"preserve_ephemeral": "no"}, ("preserve_ephemeral is a str: it must be a bool",)),
        (untyped_preset, {"seed": "s"}, ("seed is a str: it must be a bytes",)),
    ],
)
def test_what_is_no_word_and_no_number_is_refused(
    make: Callable[..., object], values: dict[str, object], problems: tuple[str, ...]
) -> None:
    with pytest.raises(LayoutInvalid) as refused:
        make(**values)
    assert refused.value.problems == problems
