"""How much processor time and memory an input may cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from libironic_disk.units import KIB, MIB

_STATUS = Path("/proc/self/status")
# Writing 5 there sets the peak back to what is resident now: proc(5).
_PEAK = Path("/proc/self/clear_refs")
# What is asked for beyond the limit is measured, up to this; then it is MemoryError, before the machine suffers.
_BEYOND = 512 * MIB


@contextmanager
def limited(*, seconds: Callable[[], float], memory: int) -> Iterator[None]:
    """Assert at the end that it cost no more; an error passes through.

    Args:
        seconds: of processor time, asked for at the end, when it is known how much was done for it.
        memory: bytes by which the resident memory of this process may have grown meanwhile.
    """
    _PEAK.write_text("5")
    before = _size("VmRSS")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_size("VmSize") + memory + _BEYOND, hard))
    start = time.process_time()
    try:
        yield
    finally:
        took = time.process_time() - start
        grown = _size("VmHWM") - before
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert took <= seconds(), f"it took {took:.1f} s, more than {seconds():.1f} s"
    assert grown <= memory, f"it took {grown / MIB:.0f} MiB of memory, more than {memory / MIB:.0f} MiB"


def _size(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * KIB
