"""What programs that nobody here wrote say about a table, in this package's words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import _ped
import parted

from libironic_disk.pure.tables.model import FoundPartition

_ATTRIBUTE_BITS = {"RequiredPartition": 0, "NoBlockIOProtocol": 1, "LegacyBIOSBootable": 2}
_EXTENDED = {"5", "f", "85"}


class Seen(NamedTuple):
    """A table as another program sees it."""

    disk_id: str
    partitions: tuple[FoundPartition, ...]


def run(*argv: str, stdin: str = "") -> str:
    """Run a program to its good end; return all it wrote."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def run_parted(*argv: str) -> None:
    """Run parted to its good end.

    For a logical partition 3.5 writes a sector from 512 bytes on its stack, and where sectors have 4096 it may read
    beyond the stack's end and die, as valgrind shows. Behind the stack lies the environment: a large one gives it room.
    """
    environment = os.environ | {"ROOM": "x" * 16384}
    command = ["parted", "--script", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, f"parted {argv}: {done.stdout}{done.stderr}"


def seen_by_sfdisk(path: str | Path) -> Seen:
    """The whole table, as `sfdisk -J` lists it."""
    argv = ["sfdisk", "--json", str(path)]
    stdout = subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout
    # Remarks, such as "omitting empty partition (5)", go to standard output too.
    table = json.loads(stdout[stdout.index(b"{") :])["partitiontable"]
    disk_id = str(table["id"]).lower()
    size = int(table["sectorsize"])
    found = []
    for one in table.get("partitions", ()):
        if one["type"] in _EXTENDED:
            continue
        number = int(re.sub(r"^p(?=\d+$)", "", one["node"].removeprefix(str(path))))
        gpt = table["label"] == "gpt"
        partition = FoundPartition(
            number=number,
            start=one["start"] * size,
            size=one["size"] * size,
            type_id=one["type"].lower() if gpt else f"{int(one['type'], 16):#04x}",
            uuid=one["uuid"].lower() if gpt else f"{disk_id[2:]}-{number:02x}",
            name=one.get("name", ""),
            attributes=_attributes(one.get("attrs") or ""),
            bootable=one.get("bootable", False),
        )
        found.append(partition)
    return Seen(disk_id, tuple(found))


def _attributes(text: str) -> int:
    bits = [_ATTRIBUTE_BITS[word] for word in text.split() if ":" not in word]
    for listed in re.findall(r"GUID:([\d,]+)", text):
        bits += [int(bit) for bit in listed.split(",")]
    return sum(1 << bit for bit in bits)


def partuuids_by_libblkid(path: str | Path, sector_size: int) -> dict[int, tuple[int, int, str]]:
    """Start and size in bytes and PARTUUID by number, as libblkid reads them, which numbers as Linux does."""
    said = run(
        "partx", "--raw", "--noheadings", f"--sector-size={sector_size}", "-o", "NR,START,SECTORS,UUID", str(path)
    )
    rows = [line.split() for line in said.splitlines()]
    return {int(nr): (int(start) * 512, int(size) * 512, uuid) for nr, start, size, uuid in rows}


def ranges_by_fdisk(path: str | Path, sector_size: int) -> list[tuple[int, int]]:
    """Start and size in bytes of all partitions, extended ones too, at any sector size that fdisk knows."""
    said = run("fdisk", f"--sector-size={sector_size}", "--list", "--output=Start,End", str(path))
    rows = re.findall(r"^ *(\d+) +(\d+)$", said, re.MULTILINE)
    return [(int(first) * sector_size, (int(last) - int(first) + 1) * sector_size) for first, last in rows]


def verify_by_fdisk(path: str | Path, sector_size: int) -> None:
    said = run("fdisk", f"--sector-size={sector_size}", str(path), stdin="v\nq\n")
    assert "No errors detected" in said, said
    assert "will be corrected" not in said, said


def verify_by_sfdisk(path: str | Path) -> None:
    said = run("sfdisk", "--verify", str(path))
    assert "No errors detected" in said, said
    assert "will be corrected" not in said, said


def verify_by_sgdisk(path: str | Path) -> None:
    said = run("sgdisk", "--verify", str(path))
    assert "No problems found" in said, said
    # sgdisk is as content with an empty table that it makes up where it finds none.
    assert "in memory" not in said, said
    assert "Warning" not in said, said
    assert "Caution" not in said, said


def ranges_by_parted(path: str | Path) -> dict[int, tuple[int, int]]:
    """Start and size in bytes by number, as libparted sees them; the extended partition is left out."""
    device = parted.getDevice(str(path))
    try:
        disk = parted.newDisk(device)
        size = device.sectorSize
        return {
            partition.number: (partition.geometry.start * size, partition.geometry.length * size)
            for partition in disk.partitions
            if partition.type != _ped.PARTITION_EXTENDED
        }
    finally:
        device.removeFromCache()


def kind_by_blkid(path: str | Path) -> str:
    """`gpt`, `dos` or nothing."""
    argv = ["blkid", "--probe", "--output=value", "--match-tag=PTTYPE", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, 2), done.stderr
    return done.stdout.strip()
