"""In which state work on a whole disk leaves it, whichever way it ends, and saying so in what is raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import DiskError, DiskState, add_aftermath

_WORSE_AND_WORSE: Final = (
    DiskState.UNCHANGED,
    DiskState.FINISHED,
    DiskState.INCOMPLETE,
    DiskState.UNBOOTABLE,
    DiskState.UNKNOWN,
)


@dataclass(slots=True)
class Progress:
    """How far the work on a disk has come, for the errors that pass."""

    state: DiskState = DiskState.UNCHANGED


@contextmanager
def labelled(progress: Progress) -> Iterator[None]:
    """Say in every error that passes in which state the disk is, whatever was being released when it happened.

    Of several disks that are held together it says the worst.
    """
    try:
        yield
    except DiskError as error:
        said = error.disk or progress.state
        error.disk = max(said, progress.state, key=_WORSE_AND_WORSE.index)
        raise


@contextmanager
def blanked_on_error(
    progress: Progress, device: str, *, blank: Callable[[], None], forget: Callable[[], None]
) -> Iterator[None]:
    """Call ``blank`` when an error passes an unfinished disk, then ``forget``; what they raise never hides the error.

    Args:
        progress: what the work sets to FINISHED when the disk is whole.
        device: the disk's name for people.
        blank: makes the disk unbootable.
        forget: makes the kernel forget its partitions.
    """
    # Unless it is blanked below, nobody knows what a failing write left.
    progress.state = DiskState.UNKNOWN
    try:
        yield
    except BaseException as error:
        # A failure behind the commit belongs to the caller and leaves the finished disk alone.
        if progress.state is not DiskState.FINISHED:
            _blank_and_say_so(progress, device, blank, forget, error)
        raise


@contextmanager
def blanked_unless_finished(
    progress: Progress, device: str, *, blank: Callable[[], None], forget: Callable[[], None]
) -> Iterator[None]:
    """Do what :func:`blanked_on_error` does, also where an unfinished disk is left without an error."""
    with blanked_on_error(progress, device, blank=blank, forget=forget):
        yield
    if progress.state is not DiskState.FINISHED:
        blank()
        progress.state = DiskState.UNBOOTABLE
        forget()


def _blank_and_say_so(
    progress: Progress, device: str, blank: Callable[[], None], forget: Callable[[], None], error: BaseException
) -> None:
    try:
        try:
            blank()
        except (DiskError, OSError):
            # The kernel tells the next flush of writes that it lost before, wherever on the disk they were. Whether the
            # disk takes the zeros, another try shows.
            blank()
    except (DiskError, OSError) as second:
        add_aftermath(error, f"{device} could not be made unbootable: {second}")
        return
    progress.state = DiskState.UNBOOTABLE
    add_aftermath(error, f"{device} was left so that it does not boot")
    try:
        forget()
    except (DiskError, OSError) as second:
        add_aftermath(error, f"the kernel still knows its partitions: {second}")
