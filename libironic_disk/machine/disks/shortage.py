"""Want of descriptors or memory is no answer: no device is gone, unused or without partitions because of it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final, TypeGuard

from libironic_disk.errors import DeviceFailed

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def refuse(error: BaseException | None, what: Path | str) -> None:
    """Raise if what failed failed for want of something; to be asked before a failure is taken for an answer.

    Raises:
        DeviceFailed: it did.
    """
    if is_one(error):
        raise DeviceFailed(device=str(what), action="looking at", reason=error.strerror or str(error)) from error


def is_one(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error of the kernel's is for want of something."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES
