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
    with file.open("a+", newline="", encoding="utf-8") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.seek(0)
        rows = {(each["work"], each["fault"]): each for each in csv.DictReader(opened)}
        rows.pop((row.work, row.fault), None)
        if row.steps:
            rows[row.work, row.fault] = line
        opened.seek(0)
        opened.truncate()
        writer = csv.DictWriter(opened, _HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
