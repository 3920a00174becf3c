"""Second opinions from programs that nobody here wrote."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


def output(*argv: str, ok: tuple[int, ...] = (0,)) -> str:
    """Run a program and return what it printed; another exit status fails the test with all its words."""
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode in ok, f"{argv} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def output_of_bytes(*argv: str) -> bytes:
    """Run a program and return what it printed, which needs be no text."""
    ended = subprocess.run(argv, capture_output=True, check=False)
    assert ended.returncode == 0, f"{argv} ended with {ended.returncode}: {ended.stderr!r}"
    return ended.stdout


def grub_cat(device: str | Path, path: str, *, partition: str = "") -> bytes:
    """Return a file as GRUB's own code reads it; ``partition`` is ``gpt2``, say, for one of a whole disk's."""
    place = f"loop0,{partition}" if partition else "loop0"
    return output_of_bytes("grub-fstest", str(device), "cat", f"({place}){path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A partition as sfdisk sees it; start and size in sectors."""

    start: int
    size: int
    type_id: str
    uuid: str
    name: str
    bootable: bool
    attributes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SfdiskTable:
    """A table as sfdisk sees it; extended partitions included."""

    label: str
    disk_id: str
    rows: tuple[Row, ...]


def sfdisk(node: str) -> SfdiskTable:
    """Return sfdisk's view of a disk."""
    table = json.loads(output("sfdisk", "--json", node))["partitiontable"]
    rows = tuple(
        Row(
            start=row["start"],
            size=row["size"],
            type_id=row["type"].lower(),
            uuid=row.get("uuid", "").lower(),
            name=row.get("name", ""),
            bootable=row.get("bootable", False),
            attributes=row.get("attrs", ""),
        )
        for row in table.get("partitions", [])
    )
    return SfdiskTable(label=table["label"], disk_id=table["id"].lower(), rows=rows)


def has_table(node: str) -> bool:
    """Whether sfdisk finds any partition table."""
    return subprocess.run(["sfdisk", "--json", node], capture_output=True, check=False).returncode == 0


def check_gpt(node: str) -> None:
    """Assert that sgdisk finds nothing to complain about."""
    said = output("sgdisk", "--verify", node)
    assert "No problems found" in said, said


def lvm(program: str, columns: str, *options: str) -> list[dict[str, str]]:
    """Return the rows of ``pvs``, ``vgs`` or ``lvs``; sizes are in bytes."""
    said = output(program, *options, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns)
    rows: list[dict[str, str]] = json.loads(said)["report"][0][program.removesuffix("s")]
    return rows


def blkid(node: str) -> dict[str, str]:
    """Return what low-level probing by the program says; empty for a blank device."""
    said = output("blkid", "--probe", "--output", "export", node, ok=(0, 2))
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def check_filesystem(kind: str, node: str) -> None:
    """Assert that the file system's own checker is content, without changing anything."""
    match kind:
        case "ext2" | "ext3" | "ext4":
            output("e2fsck", "-f", "-n", node)
        case "xfs":
            output("xfs_repair", "-n", node)
        case "btrfs":
            output("btrfs", "check", "--readonly", node)
        case "vfat":
            output("fsck.vfat", "-n", node)
        case "swap":
            assert blkid(node)["TYPE"] == "swap"
        case _:
            raise AssertionError(f"no checker for {kind}")
