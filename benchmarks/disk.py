"""The disk that both sides work on, and proof that both made the same of it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rounds import Job
from libironic_disk.units import MIB

IN_MEMORY = Path("/dev/shm")  # noqa: S108  a tmpfs is what we want: no disk's speed is to be measured


@contextmanager
def loop_disk(size: int) -> Iterator[str]:
    """Attach a sparse file of ``size`` bytes in memory as a disk with 512-byte sectors; detach it afterwards."""
    with tempfile.TemporaryDirectory(prefix="libironic_disk-bench-", dir=IN_MEMORY) as directory:
        file = Path(directory) / "disk"
        file.touch()
        os.truncate(file, size)
        node = _said("losetup", "--find", "--show", "--partscan", str(file)).strip()
        try:
            yield node
        finally:
            subprocess.run(["losetup", "--detach", node], check=True)


def check(job: Job, side: str) -> None:
    """Look at the disk with sfdisk and blkid, and stop the benchmark unless it is what the job asks for.

    Raises:
        SystemExit: it isn't.
    """
    table = json.loads(_said("sfdisk", "--json", job.device))["partitiontable"]
    found = [
        (part["start"] * table["sectorsize"], part["size"] * table["sectorsize"], *_probed(part["node"]))
        for part in table["partitions"]
    ]
    wanted = []
    start = MIB
    for size, kind, label in (
        (job.esp, "vfat", "efi-part"),
        (job.ephemeral, "ext4", "ephemeral0"),
        (job.swap, "swap", "swap1"),
        (job.config_drive, "", ""),
        (job.root, "", ""),
    ):
        wanted.append((start, size * MIB, kind, label))
        start += size * MIB
    if table["label"] != "gpt" or found != wanted:
        raise SystemExit(f"{side} made something else.\nwanted: {wanted}\nfound ({table['label']}): {found}")


def _probed(node: str) -> tuple[str, str]:
    # An unformatted partition is no failure: blkid then tells of its entry in the table alone.
    lines = _said("blkid", "--probe", "--output", "export", node).splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return values.get("TYPE", ""), values.get("LABEL", "")


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
