"""Threads that unpack clusters and write them, each piece of the disk by one of them, in whatever order.

What they do takes place in the kernel and in C, where other threads run meanwhile. They share nothing but the target
and what they count.
"""

from __future__ import annotations

import mmap
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from libironic_disk.machine.images.buffers import Buffer
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.target import Writable
from libironic_disk.pure.images.qcow2_events import Compressed, Raw
from libironic_disk.pure.images.qcow2_inflate import Inflater
from libironic_disk.units import GIB, KIB, MIB

_WAIT_SECONDS: Final = 0.1
_AREA: Final = 2 * MIB
_LARGE: Final = 128 * KIB
_FIRST_STEP: Final = 64 * MIB
_LARGEST_STEP: Final = 64 * GIB
_QUICK_SECONDS: Final = 0.02
_SLOW_SECONDS: Final = 0.2
_BLOCK: Final = 256 * KIB
_ZEROS: Final = bytes(_BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Data to be written, unpacked first where it is compressed; ``buffer`` is released afterwards."""

    items: Sequence[Raw | Compressed]
    buffer: Buffer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """A range to be made zeros."""

    offset: int
    length: int


Job = Batch | Zero


class Stopped(Exception):
    """Somebody else failed, or the caller wished so: there is no reason to go on."""


class Workers:
    """A few threads around one target; a ``with`` is their life.

    Args:
        target: written by all of them.
        image: its name in errors.
        count: how many threads.
        meter: told what was written; ticks while the caller's thread waits.
    """

    def __init__(self, target: Writable, *, image: str, count: int, meter: Meter) -> None:
        self._target = target
        self._image = image
        self._meter = meter
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # Buffers bound what waits in memory; this bounds jobs without one.
        self._room = threading.Semaphore(4 * count)
        self._stopped = threading.Event()
        self._failing = threading.Lock()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"libironic_disk-write-{number}", daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._end()
        # Its traceback holds what the threads held, and this object too: a circle around all buffers.
        self._failure = None

    def put(self, job: Job) -> None:
        """Have a job done by whoever is free first; wait while too many are waiting.

        Raises:
            DiskError: what an earlier one raised.
            Cancelled: the caller wished so.
        """
        while not self._room.acquire(timeout=_WAIT_SECONDS):
            self.check()
        self.check()
        self._jobs.put(job)

    def finish(self) -> None:
        """Wait until all jobs are done.

        Raises:
            DiskError: what one of them raised.
            Cancelled: the caller wished so.
        """
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_WAIT_SECONDS)
                self.check()
        self.check()

    def check(self) -> None:
        """Tell how far it is, for whoever waits for something else meanwhile.

        Raises:
            DiskError: what a job raised.
            Cancelled: the caller wished so.
        """
        if self._failure is not None:
            raise self._failure
        self._meter.tick()

    def _end(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        area: memoryview | None = None
        inflater = Inflater(self._image)
        while (job := self._jobs.get()) is not None:
            self._room.release()
            try:
                if self._stopped.is_set():
                    raise Stopped
                if isinstance(job, Batch):
                    area = area or memoryview(mmap.mmap(-1, _AREA))
                    self._carry_out(job, area, inflater)
                else:
                    self._zero(job.offset, job.offset + job.length)
            except Stopped:
                continue
            except BaseException as error:
                self._fail(error)
            finally:
                if isinstance(job, Batch) and job.buffer is not None:
                    job.buffer.release()

    def _fail(self, error: BaseException) -> None:
        with self._failing:
            self._failure = self._failure or error
        self._stopped.set()

    def _write(self, offset: int, data: memoryview) -> None:
        """Write data, but for long rows of zeros in it: a disk makes those by itself, and faster."""
        start = 0
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            if block[0] or block[-1] or bytes(block) != (_ZEROS if len(block) == _BLOCK else bytes(len(block))):
                continue
            self._write_all(offset + start, data[start:at])
            self._zero(offset + at, offset + at + len(block))
            start = at + len(block)
        self._write_all(offset + start, data[start:])

    def _write_all(self, offset: int, data: memoryview) -> None:
        if not data:
            return
        self._target.write(offset, data)
        self._meter.moved(written=len(data))

    def _carry_out(self, job: Batch, area: memoryview, inflater: Inflater) -> None:
        """Write a batch; what is small is put side by side as long as it follows each other on the disk."""
        start = filled = 0
        for item in job.items:
            if self._stopped.is_set():
                raise Stopped
            data = memoryview(inflater.inflate(item)) if isinstance(item, Compressed) else item.data
            if filled and (item.guest_offset != start + filled or filled + len(data) > len(area)):
                self._write(start, area[:filled])
                filled = 0
            if isinstance(item, Raw) and len(data) >= _LARGE and not filled:
                self._write(item.guest_offset, data)
                continue
            start = start if filled else item.guest_offset
            area[filled : filled + len(data)] = data
            filled += len(data)
        if filled:
            self._write(start, area[:filled])

    def _zero(self, start: int, end: int) -> None:
        """Make a range zeros in steps that a cancellation can wait for, however fast the disk is at it."""
        step = _FIRST_STEP
        while start < end:
            if self._stopped.is_set():
                raise Stopped
            length = min(step, end - start)
            began = time.monotonic()
            self._target.zero(start, length)
            seconds = time.monotonic() - began
            start += length
            self._meter.moved(zeroed=length)
            if seconds < _QUICK_SECONDS:
                step = min(2 * step, _LARGEST_STEP)
            elif seconds > _SLOW_SECONDS:
                step = max(step // 2, MIB)
