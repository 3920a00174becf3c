"""The process that serves a thousand machines' ISOs from one: what it says on its standard output is measured."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lab import mediaserver
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.bootiso import KernelParameters, ParameterChange, open_iso


def resident() -> int:
    """Return the bytes of memory that this process has of its own."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Private_"))


def change_for(number: int) -> ParameterChange:
    """Return what a machine's agent is told: where to report, and who it is."""
    words = ("ipa-api-url=https://192.0.2.1:6385", f"ipa-agent-token={number:064x}", f"BOOTIF=01-52-54-00-{number:06x}")
    return ParameterChange(append=KernelParameters(words=words))


def main() -> None:
    """Publish, say what that took, and serve until standard input ends."""
    path, machines = Path(sys.argv[1]), int(sys.argv[2])
    with open_iso(path) as iso, mediaserver.running() as (url, server):
        media = ServedMedia(url)
        # The first one reads what all need.
        media.publish("first.iso", iso.patch(parameters=change_for(machines)))
        before, began = resident(), time.perf_counter()
        inline = 0
        for number in range(machines):
            patched = iso.patch(parameters=change_for(number))
            inline += patched.report.inline_size
            media.publish(f"{number}.iso", patched)
        seconds, memory = time.perf_counter() - began, resident() - before
        server.set_app(media)
        print(url, seconds, memory, inline, patched.size, flush=True)
        sys.stdin.readline()
        print(resident(), flush=True)


if __name__ == "__main__":
    main()
