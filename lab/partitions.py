"""One partition of a disk in a plain file, as a device."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def partition(disk: Path, name: str) -> Iterator[str]:
    """Give the node of a partition by its GPT name; it is gone when the ``with`` ends."""
    table = json.loads(_output("sfdisk", "--json", str(disk)))["partitiontable"]
    (row,) = (row for row in table["partitions"] if row.get("name") == name)
    sector_size = table["sectorsize"]
    where = (f"--offset={row['start'] * sector_size}", f"--sizelimit={row['size'] * sector_size}")
    node = _output("losetup", "--find", "--show", *where, str(disk)).strip()
    try:
        yield node
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
