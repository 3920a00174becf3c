"""What a program draws on a text screen that no serial port hears of, read in the machine's memory.

A text screen is an array of cells, a character and its colours each. Programs that can draw on a graphical screen too,
as UEFI leaves one behind, keep such an array of their own. The memory is a file that the machine and we both map, so
nothing has to be asked for, and the machine need not stop.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.qemu import Machine, MachineFailed

MIB = 1024 * 1024

_IN_MEMORY = Path("/dev/shm")  # noqa: S108  (what the machine writes there shall not end up on a disk)
_PAUSE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScreen:
    """The memory of a machine that is started with these arguments; :func:`readable` makes one."""

    arguments: tuple[str, ...]
    _memory: mmap.mmap

    def wait_for(self, text: str, machine: Machine, *, timeout: float) -> None:
        """Wait until a text stands in cells of any colours but black on black, as UTF-16 would seem to have.

        Raises:
            MachineFailed: it doesn't within ``timeout`` seconds, or the machine is off.
        """
        cells = re.compile(b"".join(re.escape(letter.encode("ascii")) + b"[^\0]" for letter in text), re.DOTALL)
        deadline = time.monotonic() + timeout
        while cells.search(self._memory) is None:
            if not machine.is_on or time.monotonic() > deadline:
                raise MachineFailed(f"{text!r} was on no screen within {timeout:g} s", machine.transcript)
            time.sleep(_PAUSE)


@contextmanager
def readable(memory_mib: int) -> Iterator[TextScreen]:
    """Give a memory of so many MiB, which the machine has to be started with; it is gone when the ``with`` ends."""
    folder = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    with tempfile.NamedTemporaryFile(prefix="machine-memory-", dir=folder) as file:
        file.truncate(memory_mib * MIB)
        backend = f"memory-backend-file,id=memory,size={memory_mib}M,mem-path={file.name},share=on"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            yield TextScreen(
                arguments=("-object", backend, "-machine", "memory-backend=memory"),
                _memory=memory,
            )
