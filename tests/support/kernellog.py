"""The end of a kernel's log, with the tests that ran meanwhile in it: only there stands what a disk died of."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

PATH = Path("/dev/kmsg")
_SHOWN = 40
# Longer than any record: a read that is too short for one fails.
_RECORD = 16384


class KernelLog:
    """Reads the log as it grows."""

    def __init__(self, path: Path = PATH) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._lines: deque[str] = deque(maxlen=_SHOWN)
        self._is_quiet = False

    def begin(self, test: str) -> None:
        """Note that a test begins; one during which the kernel said nothing leaves no line."""
        self._read()
        if self._is_quiet:
            self._lines.pop()
        self._lines.append(f"-- {test}")
        self._is_quiet = True

    def end(self) -> str:
        """Return the last lines: seconds since the kernel started and what it said, and the tests in between."""
        self._read()
        return "\n".join(self._lines)

    def _read(self) -> None:
        while True:
            try:
                records = os.read(self._descriptor, _RECORD).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                # What was next has been overwritten; the read after this one goes on with what is still there.
                continue
            if not records:
                return
            for line in records.splitlines():
                self._note(line)

    def _note(self, line: str) -> None:
        # "6,339,5140900,-;text"; lines that begin with a space are the record's properties.
        head, is_record, text = line.partition(";")
        if is_record and not line.startswith(" "):
            self._lines.append(f"[{int(head.split(',')[2]) / 1e6:.3f}] {text}")
            self._is_quiet = False
