"""The one gateway to programs.

A program gets an argument list and never a shell, the C locale, an environment of our own, a closed standard input
and a deadline. It leads a process group, so that whatever it started is killed with it. What it wrote to standard error
is kept in the error. Nothing else in this package starts a process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from oslo_concurrency import processutils

from libironic_disk.errors import ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.events import Cancellation

PACKAGES: Final[Mapping[str, str]] = {
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.vfat": "dosfstools",
    "mkswap": "util-linux",
    "e2fsck": "e2fsprogs",
    "tune2fs": "e2fsprogs",
    "btrfstune": "btrfs-progs",
    "xfs_admin": "xfsprogs",
    "fatlabel": "dosfstools",
    "swaplabel": "util-linux",
    "unshare": "util-linux",
    "mcopy": "mtools",
    "mdel": "mtools",
    "mdir": "mtools",
    "mmd": "mtools",
    "mren": "mtools",
    "qemu-img": "qemu-utils",
    "grub-fstest": "grub-common",
    "grub-mkimage": "grub-common",
    "grub-script-check": "grub-common",
    "efibootmgr": "efibootmgr",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "xorriso": "xorriso",
    "mdadm": "mdadm",
    "dmsetup": "dmsetup",
    "pvs": "lvm2",
    "lvs": "lvm2",
    "pvcreate": "lvm2",
    "vgcreate": "lvm2",
    "lvcreate": "lvm2",
}
"""Debian's name of the package that each program comes with."""

_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.1
_STDERR_KEPT: Final = 8192
_DESCRIPTORS: Final = 9
"""Three pipes, and a fourth by which a program that can't be executed says so; and one for whoever looks."""
_NOT_STARTED: Final = 126
"""A shell's status for what is there and can't be executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A program that ended as expected."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use at most: bytes of address space, seconds of processor time."""

    address_space: int
    cpu_seconds: int


def _search_path() -> str:
    """The caller's PATH, then the system's: a ramdisk agent's PATH often lacks the sbin directories."""
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}".lstrip(":")


def require(tools: Iterable[str]) -> None:
    """Check that every program is installed, so that none is found missing half-way.

    Raises:
        ToolMissing: the first one that isn't, with its package.
    """
    path = _search_path()
    for tool in tools:
        if shutil.which(tool, path=path) is None:
            raise ToolMissing(tool=tool, package=PACKAGES.get(tool, tool))


def run(
    *argv: str,
    timeout: float,
    stdin: bytes | None = None,
    ok: tuple[int, ...] = (0,),
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    cancel: Cancellation | None = None,
    watch: Callable[[int], None] | None = None,
) -> Completed:
    """Run a program to its end and return what it wrote.

    Args:
        argv: the program and its arguments, never interpreted by a shell.
        timeout: seconds after which it is killed.
        stdin: bytes for its standard input, which is closed otherwise.
        ok: the exit statuses that mean success.
        environment: variables beside LC_ALL and PATH, the only ones that it gets.
        limits: resource limits, set by oslo.concurrency's prlimit before the program starts.
        cancel: thrown by the caller, it kills the program.
        watch: called about ten times a second with the program's pid while it runs, from another thread. What it
            raises ends its calls and is raised here after the program's end.

    Raises:
        ToolMissing: it isn't installed.
        ProgramFailed: it ended with another status, or the kernel refuses to start it.
        ProgramTimedOut: it was killed after ``timeout`` seconds.
        Cancelled: it was killed because the caller cancelled.
    """
    require(argv[:1])
    started: list[subprocess.Popen[bytes]] = []
    command = _Command(argv=argv, stdin=stdin, timeout=timeout, limits=limits, environment=environment or {})
    try:
        with _watching(started, cancel, watch):
            stdout, stderr, exit_code = command.execute(started)
    except subprocess.TimeoutExpired as error:
        said = _last_words(error.stderr)
        raise ProgramTimedOut(argv=argv, stderr=said, timeout=timeout) from error
    except OSError as error:
        if started:
            raise
        raise ProgramFailed(argv=argv, stderr=error.strerror or str(error), exit_code=_NOT_STARTED) from error
    finally:
        _reap(started)
    if exit_code not in ok:
        if cancel is not None:
            cancel.check(f"`{argv[0]}`")
        raise ProgramFailed(argv=argv, stderr=_last_words(stderr), exit_code=exit_code)
    return Completed(argv=argv, exit_code=exit_code, stdout=stdout, stderr=_last_words(stderr))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    argv: tuple[str, ...]
    stdin: bytes | None
    timeout: float
    limits: Limits | None
    environment: Mapping[str, str]

    def execute(self, started: list[subprocess.Popen[bytes]]) -> tuple[bytes, bytes, int]:
        _require_descriptors()
        prlimit = None
        if self.limits is not None:
            prlimit = processutils.ProcessLimits(
                address_space=self.limits.address_space, cpu_time=self.limits.cpu_seconds
            )
        stdout, stderr = processutils.execute(  # type: ignore[call-overload]
            *self.argv,
            process_input=self.stdin,
            env_variables={"LC_ALL": "C", "PATH": _search_path(), **self.environment},
            check_exit_code=False,
            binary=True,
            prlimit=prlimit,
            on_execute=started.append,
            # Looked up before the fork, behind which another thread may hold the loader's lock for ever.
            preexec_fn=partial(_tie_to_us, ctypes.CDLL(None)),
            # It is handed to Popen.communicate(), which takes fractions of a second.
            timeout=self.timeout,
        )
        return stdout, stderr, started[0].returncode


def _require_descriptors() -> None:
    """See that there are descriptors enough for a program: Python before 3.12 loses those that it has when one fails.

    Raises:
        OSError: there are none.
    """
    with ExitStack() as stack:
        for _ in range(_DESCRIPTORS):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _tie_to_us(libc: ctypes.CDLL) -> None:
    """Lead a process group, so that children are killed too; and die with us, so that kill -9 leaves no writer behind.

    The thread that starts a program waits for its end: the signal, which comes when that thread ends, is never early.
    """
    os.setpgrp()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _watching(
    started: list[subprocess.Popen[bytes]], cancel: Cancellation | None, watch: Callable[[int], None] | None
) -> Iterator[None]:
    """Look at the running program from a second thread, because the first one waits for its output."""
    if cancel is None and watch is None:
        yield
        return
    ended = threading.Event()
    raised: list[Exception] = []

    def look() -> None:
        while not ended.wait(_POLL_SECONDS):
            for process in started:
                if cancel is not None and cancel.requested:
                    _kill(process)
                    return
                if watch is not None and not raised:
                    try:
                        watch(process.pid)
                    except Exception as error:  # it must not end the thread that serves a cancellation
                        raised.append(error)

    watcher = threading.Thread(target=look, name="libironic_disk-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    if raised:
        raise raised[0]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that wasn't waited for yet, and whatever it started: its children may have our pipes."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _reap(started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        _kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _last_words(stderr: bytes | None) -> str:
    return (stderr or b"")[-_STDERR_KEPT:].decode(errors="replace")
