"""Superblocks by libblkid's low-level probing: no cache, no udev, no process.

Bound through ctypes because a probe of every partition by running ``blkid -p`` costs 3 to 5 ms each, and because the
program can't list more than one signature of a place. The functions are those of libblkid's reference manual,
"Low-level probing"; the constants those of ``blkid.h``, which are a part of its binary interface.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from libironic_disk.errors import DeviceFailed, ToolMissing
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.ranges import ByteRange

_LABEL, _UUID, _TYPE, _MAGIC, _BAD_CHECKSUM = 1 << 1, 1 << 3, 1 << 5, 1 << 9, 1 << 10
_FOUND: Final = 0
_NOTHING_MORE: Final = 1
# A disk holds a handful; more means that the probe runs in a circle.
_MOST: Final = 64


def signatures(fd: int, span: ByteRange, *, device: str, sector_size: int, partition: int = 0) -> tuple[Signature, ...]:
    """Return every superblock within a range of an open disk, in the order of their offsets.

    Args:
        fd: the disk, open for reading.
        span: the bytes to look at, as if they were a device of their own.
        device: the name for errors.
        sector_size: the logical sector size, which some superblocks' places depend on.
        partition: the number to give to what is found.

    Raises:
        DeviceFailed: libblkid couldn't read.
    """
    with _probe(fd, span, device, sector_size) as (library, probe):
        found = [_signature(library, probe, span.start, partition) for _ in _findings(library, probe, device)]
    return tuple(sorted(found, key=lambda signature: signature.offset))


def erase_signatures(fd: int, span: ByteRange, *, device: str, sector_size: int) -> int:
    """Overwrite the magic bytes of every superblock within a range, the innermost as well; return how many there were.

    Raises:
        DeviceFailed: libblkid couldn't read or write, or something is still recognised afterwards.
    """
    erased = 0
    with _probe(fd, span, device, sector_size) as (library, probe):
        for _ in _findings(library, probe, device):
            ctypes.set_errno(0)
            if library.blkid_do_wipe(probe, 0) != 0:
                raise DeviceFailed(
                    device=device, action="erasing a signature on", reason=_why("libblkid could not write")
                )
            # The same kind may lie there a second time, as the backups of some do.
            library.blkid_probe_step_back(probe)
            erased += 1
    # A probe that found nothing is the proof already.
    left = signatures(fd, span, device=device, sector_size=sector_size) if erased else ()
    if left:
        raise DeviceFailed(device=device, action="erasing signatures on", reason=f"{left[0].kind} is still there")
    return erased


@contextmanager
def _probe(fd: int, span: ByteRange, device: str, sector_size: int) -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p]]:
    library = _library()
    probe = ctypes.c_void_p(library.blkid_new_probe())
    if probe.value is None:
        raise MemoryError("libblkid could not allocate a probe")
    try:
        if library.blkid_probe_set_device(probe, fd, span.start, span.size) != 0:
            raise DeviceFailed(device=device, action="probing", reason="libblkid refuses the range", offset=span.start)
        library.blkid_probe_set_sectorsize(probe, sector_size)
        library.blkid_probe_enable_superblocks(probe, 1)
        library.blkid_probe_set_superblocks_flags(probe, _LABEL | _UUID | _TYPE | _MAGIC | _BAD_CHECKSUM)
        library.blkid_probe_enable_partitions(probe, 0)
        yield library, probe
    finally:
        library.blkid_free_probe(probe)


def _findings(library: ctypes.CDLL, probe: ctypes.c_void_p, device: str) -> Iterator[None]:
    for _ in range(_MOST):
        ctypes.set_errno(0)
        result = library.blkid_do_probe(probe)
        if result == _NOTHING_MORE:
            return
        if result != _FOUND:
            raise DeviceFailed(device=device, action="probing", reason=_why("libblkid could not read"))
        yield


def _why(words: str) -> str:
    """Add what the kernel answered to the system call that libblkid gave up after."""
    number = ctypes.get_errno()
    return f"{words}: {os.strerror(number)}" if number else words


def _signature(library: ctypes.CDLL, probe: ctypes.c_void_p, start: int, partition: int) -> Signature:
    return Signature(
        kind=_value(library, probe, "TYPE"),
        offset=start + int(_value(library, probe, "SBMAGIC_OFFSET") or 0),
        partition=partition,
        label=_value(library, probe, "LABEL"),
        uuid=_value(library, probe, "UUID"),
    )


def _value(library: ctypes.CDLL, probe: ctypes.c_void_p, name: str) -> str:
    data, length = ctypes.c_char_p(), ctypes.c_size_t()
    if library.blkid_probe_lookup_value(probe, name.encode(), ctypes.byref(data), ctypes.byref(length)) != 0:
        return ""
    return (data.value or b"").decode(errors="replace")


def _library() -> ctypes.CDLL:
    try:
        # The loader keeps it: opening it again costs microseconds and needs no global of ours.
        library = ctypes.CDLL("libblkid.so.1", use_errno=True)
    except OSError as error:
        raise ToolMissing(tool="libblkid.so.1", package="libblkid1") from error
    library.blkid_new_probe.restype = ctypes.c_void_p
    library.blkid_probe_set_device.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return library
