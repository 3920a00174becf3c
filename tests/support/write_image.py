"""A process that writes an image: to be watched from outside while it has nothing else to do.

``python -m tests.support.write_image SOURCE DEVICE CAPACITY`` says how many bytes the image has on the device, how many
bytes the process had in memory at its largest, and by how many it had grown since it had loaded the library. ``-`` is
its standard input.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from libironic_disk import images


def memory(field: str) -> int:
    """Return the kernel's count of this process's memory, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main(source: str, device: str, capacity: str) -> None:
    """Write an image."""
    before = memory("VmRSS")
    # The kernel forgets the peak so far; proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    image = images.inspect(sys.stdin.buffer if source == "-" else source)
    written = images.write_image(image, device, capacity=int(capacity))
    most = memory("VmHWM")
    sys.stdout.write(f"{written.bytes_written} {most} {most - before}")


if __name__ == "__main__":
    main(*sys.argv[1:])
