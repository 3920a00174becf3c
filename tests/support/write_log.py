"""Every write that a program makes to a device, in order, with the flushes between them: from strace.

strace sees each system call of each thread, whichever library makes it. The whole of what is written is in its log,
so that a disk can be made again as it was at any moment, or as it might be after the power went away.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LONGEST = 64 * 1024 * 1024
_LINE = re.compile(r"^(\d+) +(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_CALL = re.compile(r"^(\w+)\((\d+)<[^<>]*>(?:, )?(.*)\) += (-?\d+)", re.DOTALL)
_TEXT = re.compile(r'"([^"]*)"')
# What can change a file that is open, or have it changed: a call that isn't understood must not pass unseen.
_TRACED = (
    "write,writev,pwrite64,pwritev,pwritev2,fallocate,ftruncate,fdatasync,fsync,sync_file_range,ioctl,lseek,"
    "sendfile,copy_file_range,splice,io_uring_setup,io_setup"
)
_HARMLESS_IOCTLS = (
    "BLKPG",
    "BLKSSZGET",
    "BLKGET",
    "BLKIOMIN",
    "BLKIOOPT",
    "BLKPBSZGET",
    "BLKALIGNOFF",
    "CDROM",
    "FDGET",
)
_ZEROING_MODES = ("FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE", "FALLOC_FL_KEEP_SIZE|FALLOC_FL_ZERO_RANGE")


class Change(NamedTuple):
    """Bytes that were written; ``data`` is None for zeros."""

    offset: int
    length: int
    data: bytes | None

    @property
    def content(self) -> bytes:
        """All of the bytes."""
        return self.data if self.data is not None else bytes(self.length)

    def apply(self, disk: bytearray, sectors: Sequence[int] | None = None, sector_size: int = 512) -> None:
        """Write it, or some of its sectors only."""
        data = self.content
        if sectors is None:
            disk[self.offset : self.offset + self.length] = data
            return
        for sector in sectors:
            at = sector * sector_size
            part = data[at : at + sector_size]
            disk[self.offset + at : self.offset + at + len(part)] = part


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLog:
    """What happened to one device: changes in groups, with a flush of the device after each group but the last."""

    groups: tuple[tuple[Change, ...], ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes in their order."""
        return tuple(change for group in self.groups for change in group)


def record(argv: Sequence[str], device: str, log: Path, *, status: int = 0) -> WriteLog:
    """Run a program under strace and return what it did to a device."""
    # Without the filter every system call would stop the program, and starting Python takes twice as long.
    how = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(_LONGEST), "-e", f"trace={_TRACED}", "-e", "signal=none"]
    program = ["strace", *how, "-o", str(log), "--", *argv]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ended.returncode == status, f"{argv} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
    with log.open(errors="strict") as lines:
        return WriteLog(groups=tuple(_groups(_calls(lines), device)))


def _calls(lines: Iterator[str] | Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each call when it begins (as ``begins``) and when it has ended (as ``ended``)."""
    waiting: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        assert match is not None, line[:200]
        thread, text = match.groups()
        if text.startswith(("+++", "---")):
            continue
        resumed = _RESUMED.match(text)
        if resumed:
            yield "ended", waiting.pop(thread) + resumed[1]
        elif text.endswith("<unfinished ...>"):
            waiting[thread] = text.removesuffix("<unfinished ...>").rstrip()
            yield "begins", text
        else:
            yield "begins", text
            yield "ended", text
    assert not waiting


def _groups(calls: Iterator[tuple[str, str]], device: str) -> Iterator[tuple[Change, ...]]:
    """Cut the changes at flushes: a flush is sure of what had ended when it began, and of nothing else."""
    group: list[Change] = []
    places: dict[str, int] = {}
    named = "<" + "".join(f"\\x{byte:02x}" for byte in device.encode()) + ">"
    for moment, text in calls:
        assert not text.startswith(("io_uring_setup", "io_setup", "sendfile", "copy_file_range", "splice")), text[:200]
        if named not in text[:200]:
            continue
        name = text.split("(", 1)[0]
        if name in ("fdatasync", "fsync"):
            if moment == "begins":
                yield tuple(group)
                group = []
            else:
                assert _matched(text)[4] == "0", text
        elif moment == "ended":
            group += _changes(_matched(text), places)
    yield tuple(group)


def _matched(text: str) -> re.Match[str]:
    match = _CALL.match(text)
    assert match is not None, text[:200]
    return match


def _changes(call: re.Match[str], places: dict[str, int]) -> Iterator[Change]:
    """Yield what a call that ended has changed."""
    name, descriptor, arguments, result = call.groups()
    count = int(result)
    if name == "lseek":
        places[descriptor] = count
    elif name == "ioctl":
        assert arguments.startswith(_HARMLESS_IOCTLS), arguments[:200]
    elif name == "sync_file_range" or count < 0:
        return
    elif name == "fallocate":
        mode, offset, length = arguments.split(", ")
        assert mode in _ZEROING_MODES, arguments
        yield Change(int(offset), int(length), None)
    elif name in ("write", "pwrite64", "pwritev", "pwritev2", "writev"):
        data = b"".join(bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments))[:count]
        assert len(data) == count, arguments[-200:]
        if name in ("write", "writev"):
            offset = places[descriptor]
            places[descriptor] += count
        else:
            offset = int(arguments.rsplit("]" if name != "pwrite64" else '"', 1)[1].split(", ")[2].rstrip(")"))
        yield Change(offset, count, data)
    else:
        raise AssertionError(f"{name} is not understood: {arguments[:200]}")
