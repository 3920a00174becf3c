"""oslo.concurrency's external lock, for callers that share a host and want to lock each other out before all else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from oslo_concurrency import lockutils

from libironic_disk.errors import DeviceLocked
from libironic_disk.events import Cancellation

_NAP: Final = 0.05


@contextmanager
def host_lock(device: str, lock_path: Path | None, *, timeout: float, cancel: Cancellation) -> Iterator[None]:
    """Hold the lock of one disk among those in a directory; without a directory, hold nothing.

    Raises:
        DeviceLocked: another holder kept it for ``timeout`` seconds.
        Cancelled: the caller wished so while it was waited for.
    """
    if lock_path is None:
        yield
        return
    # By what the path leads to: the links of one disk must not be as many locks.
    name = os.path.realpath(device).strip("/").replace("/", "-")
    deadline = time.monotonic() + timeout
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(
                    lockutils.lock(
                        name,
                        lock_file_prefix="libironic_disk-",
                        external=True,
                        lock_path=str(lock_path),
                        blocking=False,
                    )
                )
                break
            except lockutils.AcquireLockFailedException as error:
                if time.monotonic() >= deadline:
                    raise DeviceLocked(device=device, waited=timeout, holders=(f"a lock in {lock_path}",)) from error
                cancel.check("waiting for the lock")
                time.sleep(_NAP)
        yield
