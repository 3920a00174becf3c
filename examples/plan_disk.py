"""Plan and draw a disk without having one: no root, nothing is written but three files in the current directory.

``python -m examples.plan_disk`` makes ``layout.json``, ``plan.json`` and ``plan.svg``; those in ``docs/`` come from it.
"""

from __future__ import annotations

from pathlib import Path

from libironic_disk import (
    FileSystem,
    Layout,
    PartitionSpec,
    Percent,
    Plan,
    Remaining,
    Role,
    TableKind,
    as_svg,
    as_text,
    layout_to_json,
    mib,
    partitioner,
    plan_to_json,
)

GIB = 1024**3
DISK_SIZE = 480 * GIB

LAYOUT = Layout(
    table=TableKind.GPT,
    seed=b"rack 7, machine 12, first deployment",
    partitions=(
        PartitionSpec(role=Role.ESP, size=mib(550), filesystem=FileSystem.VFAT, label="efi-part"),
        PartitionSpec(role=Role.SWAP, size=mib(16384), filesystem=FileSystem.SWAP, label="swap1"),
        PartitionSpec(
            role=Role.DATA,
            name="logs",
            size=Percent(share=5),
            filesystem=FileSystem.XFS,
            label="logs",
            mount_point="/var/log",
        ),
        PartitionSpec(
            role=Role.DATA,
            name="srv",
            size=Remaining(weight=3),
            filesystem=FileSystem.BTRFS,
            label="srv",
            mount_point="/srv",
        ),
        PartitionSpec(role=Role.ROOT, size=Remaining(weight=1, minimum=20 * GIB, maximum=100 * GIB)),
    ),
)


def plan_blank_disk(path: Path) -> Plan:
    """Plan for a blank disk of 480 GiB; a sparse file stands for it and is removed again."""
    with path.open("xb") as file:
        file.truncate(DISK_SIZE)
    try:
        return partitioner.plan(LAYOUT, partitioner.observe(str(path), file_sector_size=512))
    finally:
        path.unlink()


def main() -> None:
    """Print the plan and write what documents it."""
    plan = plan_blank_disk(Path("disk.img"))
    print(as_text(plan))
    Path("layout.json").write_text(layout_to_json(LAYOUT) + "\n")
    Path("plan.json").write_text(plan_to_json(plan) + "\n")
    Path("plan.svg").write_text(as_svg(plan))


if __name__ == "__main__":
    main()
