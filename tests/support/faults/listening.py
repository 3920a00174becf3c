"""System calls of a process and of all that it starts, held until another process has decided on each.

seccomp's user notification (seccomp_unotify(2)) does it: the kernel hands a call to whoever has the listener, who lets
it go on or answers it with an errno. strace's own injection counts for each thread by itself, and a step of a
deployment is a step whichever thread takes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NUMBERS: Final = {
    "read": 0,
    "write": 1,
    "ioctl": 16,
    "pread64": 17,
    "pwrite64": 18,
    "writev": 20,
    "sendfile": 40,
    "flock": 73,
    "fsync": 74,
    "fdatasync": 75,
    "fchmod": 91,
    "fchmodat": 268,
    "ftruncate": 77,
    "rename": 82,
    "mkdir": 83,
    "link": 86,
    "unlink": 87,
    "openat": 257,
    "mkdirat": 258,
    "unlinkat": 263,
    "renameat": 264,
    "linkat": 265,
    "splice": 275,
    "sync_file_range": 277,
    "fallocate": 285,
    "preadv": 295,
    "pwritev": 296,
    "syncfs": 306,
    "renameat2": 316,
    "copy_file_range": 326,
    "preadv2": 327,
    "pwritev2": 328,
    "memfd_create": 319,
    "socket": 41,
    "mount": 165,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "openat2": 437,
}
"""The calls that can be listened to, by their numbers on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl)."""

_NAMELESS: Final = frozenset({"socket", "memfd_create"})
_NAMES: Final = {number: name for name, number in NUMBERS.items()}
_SECCOMP: Final = 317
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 1 << 3
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_CONTINUE: Final = 1
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_AT_FDCWD: Final = 2**32 - 100
_LONGEST_PATH: Final = 4096

# Where a call has its path: the number of the argument, and that of the descriptor which it starts from.
_PATHS: Final[dict[str, tuple[int, int | None]]] = {
    "openat": (1, 0),
    "openat2": (1, 0),
    "mkdir": (0, None),
    "mkdirat": (1, 0),
    "fchmodat": (1, 0),
    "unlink": (0, None),
    "unlinkat": (1, 0),
    "rename": (1, None),
    "renameat": (3, 2),
    "renameat2": (3, 2),
    "link": (1, None),
    "linkat": (3, 2),
    "mount": (0, None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call that waits: which one, by which thread, and what it was given."""

    name: str
    thread: int
    arguments: tuple[int, ...]
    known: dict[object, bool] = field(default_factory=dict, compare=False, repr=False)
    """What was found out about it already: several may ask the same while one call waits."""

    def target(self) -> Path | None:
        """Return the way to what the call is about, as seen through /proc of its thread; None if there is none."""
        if self.name in _NAMELESS:
            return None
        if self.name not in _PATHS:
            # The second descriptor is where a copying call writes to.
            number = self.arguments[{"copy_file_range": 2, "splice": 2}.get(self.name, 0)]
            return Path(f"/proc/{self.thread}/fd/{number & 0xFFFFFFFF}")
        text = self.path()
        if text is None:
            return None
        _, start = _PATHS[self.name]
        if text.startswith("/") and self.name != "openat2":
            return Path(text)
        number = _AT_FDCWD if start is None else self.arguments[start] & 0xFFFFFFFF
        base = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        return Path(f"/proc/{self.thread}/{base}", text.lstrip("/"))

    def source(self) -> Path:
        """Return the way to what a call reads, if its first argument says so."""
        return Path(f"/proc/{self.thread}/fd/{self.arguments[0] & 0xFFFFFFFF}")

    def path(self) -> str | None:
        """Return the path that the call was given, for a renaming or linking call the new one."""
        address = self.arguments[_PATHS[self.name][0]]
        try:
            with Path(f"/proc/{self.thread}/mem").open("rb", buffering=0) as memory:
                memory.seek(address)
                # To the end of the page first: behind it there may be nothing.
                found = memory.read(4096 - address % 4096)
                if b"\0" not in found:
                    found += memory.read(_LONGEST_PATH)
        except OSError:
            return None
        return os.fsdecode(found.split(b"\0", 1)[0])


def listen(names: Iterable[str]) -> int:
    """Let calls of this process and of all its children wait for whoever has the listener that is returned.

    No other thread may be running: the filter is this thread's and its children's.
    """
    assert platform.machine() == "x86_64", "the numbers of system calls are x86_64's"
    numbers = [NUMBERS[name] for name in names]
    steps = [(0x20, 0, 0, 0)]
    steps += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    steps += [(0x06, 0, 0, _ALLOW), (0x06, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    listener = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


class Listener:
    """Decides on each call that waits, in a thread of its own, until the last process with the filter is gone."""

    def __init__(self, descriptor: int, decide: Callable[[Call], int]) -> None:
        self._descriptor = descriptor
        self._decide = decide
        self.failed: BaseException | None = None
        """What went wrong in the deciding itself; from then on every call goes on."""
        self._thread = threading.Thread(target=self._serve, name="listener", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all processes with the filter are gone."""
        self._thread.join()
        os.close(self._descriptor)
        if self.failed is not None:
            raise self.failed

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            events = poll.poll()
            if any(event & (select.POLLHUP | select.POLLERR) for _, event in events):
                return
            waiting = bytearray(80)
            try:
                fcntl.ioctl(self._descriptor, _RECEIVE, waiting)
            except OSError:
                # It was killed, or interrupted, before anybody looked.
                continue
            identity, thread, _, number = struct.unpack_from("<QIIi", waiting)
            call = Call(name=_NAMES[number], thread=thread, arguments=struct.unpack_from("<6Q", waiting, 32))
            errno = self._decided(call)
            answer = struct.pack("<QqiI", identity, 0, -errno, 0 if errno else _CONTINUE)
            try:
                fcntl.ioctl(self._descriptor, _SEND, answer)
            except OSError:
                continue

    def _decided(self, call: Call) -> int:
        if self.failed is not None:
            return 0
        try:
            return self._decide(call)
        except BaseException as error:
            self.failed = error
            return 0
