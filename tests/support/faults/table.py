"""The table of docs/faults.rst, written by the runs themselves: a walk's row takes the place of an older one."""

from __future__ import annotations

import csv
import fcntl
from pathlib import Path

from tests.support.faults.walking import Row

_HEAD = ("work", "fault", "steps", "tried", "outcomes")


def record(file: Path, row: Row) -> None:
    """Put a row into the table, in the order of works and faults; others may be at it at the same time.

    A walk without places, as that of a program's faults through a call that runs none, has no row.
    """
    line = {
        "work": row.work,
        "fault": row.fault,
        "steps": str(row.steps),
        "tried": str(row.tried),
        "outcomes": ", ".join(f"{count} x {outcome}" for outcome, count in row.outcomes),
    }
    _change(file, (row.work, row.fault), line if row.steps else None)


def forget(file: Path, work: str, fault: str) -> None:
    """Take a row out of the table, as of a walk that is only beginning."""
    _change(file, (work, fault), None)


def _change(file: Path, key: tuple[str, str], line: dict[str, str] | None) -> None:
    with file.open("a+", newline="", encoding="utf-8") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.seek(0)
        rows = {(each["work"], each["fault"]): each for each in csv.DictReader(opened)}
        rows.pop(key, None)
        if line is not None:
            rows[key] = line
        opened.seek(0)
        opened.truncate()
        writer = csv.DictWriter(opened, _HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[each] for each in sorted(rows))
