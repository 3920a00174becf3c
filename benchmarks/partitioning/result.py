"""Proof that both sides made the same of the disk."""

from __future__ import annotations

import json
import subprocess

from benchmarks.partitioning.job import Job
from libironic_disk.units import MIB


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
