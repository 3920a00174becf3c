"""A process that writes a whole-disk image: to be killed, and to be looked at by strace.

``python -m tests.support.write_whole_disk IMAGE DISK`` says "phase PHASE" as each begins, and at the end "writes COUNT"
or the name of an error and in which state that left the disk.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar
from unittest import mock

from libironic_disk import configdrive, images, partitioner, wholedisk
from libironic_disk.errors import DiskError
from libironic_disk.events import Event, EventSink, PhaseStarted
from libironic_disk.images import ImageFormat, ImageSource
from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.streaming import stream
from libironic_disk.wholedisk import writing

_Result = TypeVar("_Result")


def write(
    image: ImageSource,
    disk: str,
    *,
    sink: EventSink,
    checksum: str | None = None,
    declared: ImageFormat | None = None,
    with_drive: bool = False,
) -> None:
    """Inspect, observe, plan and apply."""
    inspected = images.inspect(image, checksum=checksum, declared=declared)
    facts = partitioner.observe(disk)
    drive = configdrive.load({"meta_data": {"uuid": "f0f0"}}, sector_size=facts.topology.sector_size)
    wholedisk.apply(wholedisk.plan(inspected, facts, drive=drive if with_drive else None), sink=sink)


class Mortal:
    """Counts what could change a disk, in all threads, and dies of SIGKILL in place of one."""

    def __init__(self, dies_at: int) -> None:
        self.count = 0
        self._dies_at = dies_at
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count until the end of the block."""
        with ExitStack() as patches:
            for module, name in ((os, "pwrite"), (os, "fdatasync"), (file_ranges, "allocate")):
                patches.enter_context(mock.patch.object(module, name, self._counted(getattr(module, name))))
            yield

    def _counted(self, call: Callable[..., _Result]) -> Callable[..., _Result]:
        def counted(*arguments: object) -> _Result:
            with self._lock:
                self.count += 1
                if self.count == self._dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return counted


def main(arguments: list[str]) -> int:
    """Do it, and tell the phases on standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", help="a path or a URL")
    parser.add_argument("disk")
    parser.add_argument("--checksum")
    parser.add_argument("--declared", type=ImageFormat)
    parser.add_argument("--drive", action="store_true", help="give the disk a config drive too")
    parser.add_argument("--as-stream", action="store_true", help="give the library an open stream")
    parser.add_argument("--stash", type=int, help="bytes of memory for what comes before its tables")
    parser.add_argument("--step", action="store_true", help="begin each phase only when a line is on standard input")
    parser.add_argument("--die-at", type=int, default=0, help="which write or flush is never made")
    options = parser.parse_args(arguments)

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            print("phase", event.phase, flush=True)
            if options.step:
                sys.stdin.readline()

    mortal = Mortal(options.die_at)
    with ExitStack() as stack:
        image = stack.enter_context(Path(options.image).open("rb")) if options.as_stream else options.image
        if options.stash is not None:
            small = functools.partial(stream, stash_budget=options.stash)
            stack.enter_context(mock.patch.object(writing, "stream", small))
        stack.enter_context(mortal.watching())
        try:
            write(
                image,
                options.disk,
                sink=sink,
                checksum=options.checksum,
                declared=options.declared,
                with_drive=options.drive,
            )
        except DiskError as error:
            print(type(error).__name__, error.disk, flush=True)
            return 1
    print("writes", mortal.count, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
