"""Work on a hostile root, judged by what was asked of the kernel meanwhile, and by what is left."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libironic_disk.machine import process
from libironic_disk.units import MIB
from tests.support import hostile_roots, inside
from tests.support.disks import LoopDisk, attach
from tests.support.hostile_roots import Outside
from tests.support.tracing import Call, Done, Worker

MEMORY = 128 * MIB
"""What one piece of work may take beside what Python has."""
SECONDS = inside.patience(40.0)

# Programs that those of the gateway start, and what the small script for os-prober's probes is made of.
_HELPERS = frozenset(
    {
        *("sh", "dash", "mount", "mkdir", "cp", "mknod", "chroot", "python3", "python", "python3.11", "prlimit"),
        *("grep", "sed", "cut", "head", "cat", "ls", "tr", "logger", "mktemp", "rm", "basename", "uname", "printf"),
        *("20microsoft", "40lsb", "70hurd", "90linux-distro", "mke2fs", "mkfs.ext4", "mkfs.fat", "udevadm"),
        "ldconfig",  # by which ctypes finds libudev, where udevd runs
    }
)
_SYSTEM = re.compile(
    r"/(usr|bin|sbin|lib\w*|proc|sys|dev"
    r"|etc/(ld\.so|localtime|mtab|mke2fs\.conf|passwd|group|nsswitch|blkid|mtools|lvm|udev)"
    r"|var/lib/os-prober|run/(udev|lock|blkid|mount|lvm)|target|root|tmp|var|null|libironic_disk-mark)\b.*|/|"
)
# In which a program of the machine is looked for.
_PATH = [f"{each}/" for each in os.environ["PATH"].split(":") if each.startswith("/")]
_PROGRAMS = ("/usr/", "/bin/", "/sbin/", *_PATH, sys.executable)
# Where a path that is one name in an open directory is no way out: it isn't followed, or was made a moment ago.
_UNFOLLOWED = frozenset(
    {"mkdirat", "mknodat", "unlinkat", "renameat", "renameat2", "linkat", "symlinkat", "readlinkat", "fchmodat"}
)

# What follows a link unless it is told not to.
_LOOKING = frozenset({"newfstatat", "statx", "faccessat", "faccessat2", "fchownat", "utimensat"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The worker, and what lies outside of the roots that it is given."""

    folder: Path
    outside: Outside
    disk: LoopDisk
    worker: Worker

    @classmethod
    @contextmanager
    def made(cls, folder: Path) -> Iterator[Bench]:
        """Make one in an empty folder, and take it away."""
        disk, temporary = folder / "a-disk-of-the-machine", folder / "temporary"
        temporary.mkdir()
        disk.write_bytes(hostile_roots.SECRET.ljust(MIB, b"\n"))
        with attach(disk, 512) as device:
            outside = Outside.made(folder / "outside", os.stat(device.node).st_rdev)
            worker = Worker("tests.support.hostile_worker", folder, TMPDIR=str(temporary), PYTHONDONTWRITEBYTECODE="1")
            try:
                yield cls(folder=folder, outside=outside, disk=device, worker=worker)
            finally:
                worker.close()

    def work(
        self, node: str, works: Mapping[str, Mapping[str, object]], *, looks_at_disks: bool = False
    ) -> Mapping[str, Any]:
        """Have work done on a device, and assert whatever holds of any work on any root; return what became of it.

        Args:
            node: the device.
            works: what is done to it, by the worker's names of it.
            looks_at_disks: whether it is a part of the work to look at every disk of the machine.
        """
        before, disk = self.outside.state(), self.disk.digest()
        done = self.worker.work(node=node, works=works, deadline=2 * SECONDS)
        problems = [*_followed(done, self, looks_at_disks=looks_at_disks), *_started(done), *_left(done)]
        # The worst first.
        problems.sort(key=lambda each: not each.startswith("outside"))
        assert problems == [], "\n".join(problems[:20])
        assert self.outside.state() == before, "something outside was changed"
        assert self.disk.digest() == disk, "a disk of the machine was written to"
        return done.answer


def _left(done: Done) -> Iterator[str]:
    for name, answer in done.answer.items():
        yield from (f"{name} left {each}" for each in answer["leaks"])
        if not answer["is_typed"]:
            yield f"{name} ended with {answer['error']}: {answer['said']}"
        if not answer["said"].replace("\n", "").isprintable():
            yield f"{name} said {answer['said']!r}"
        if answer["memory"] > MEMORY:
            yield f"{name} took {answer['memory'] // MIB} MiB"
    if done.seconds > SECONDS:
        yield f"it took {done.seconds} s"


def _followed(done: Done, bench: Bench, *, looks_at_disks: bool) -> Iterator[str]:
    """Yield what was opened or changed outside, or by a name from an image in a way that a link leads out of."""
    # Beside that folder are those of the tests, wherever temporary files are.
    own = (str(bench.folder.parent), str(Path.cwd()), str(Path(process.__file__).parents[2]))
    outside = (str(bench.outside.folder),) if looks_at_disks else (str(bench.outside.folder), bench.disk.node)
    for call in done.calls:
        if any(each in text for each in outside for text in (*_asked(call), call.opened)):
            yield f"outside: {call}"
        elif call.device and "O_PATH" not in call.arguments and not call.opened.startswith("/dev/"):
            # Whatever its name is, it is that of a device, which an image made.
            yield f"a device of an image: {call}"
        elif call.name in {"connect", "bind", "sendto", "ptrace", "process_vm_writev", "init_module", "bpf"}:
            # A daemon that knows users' names, and one that keeps a log, are asked for and aren't there.
            if call.succeeded and not _is_for_udevd(call):
                yield f"not a reader of files: {call}"
        elif call.name == "openat2":
            if "RESOLVE_IN_ROOT" not in call.arguments or "RESOLVE_NO_XDEV" not in call.arguments:
                yield f"not held in the root: {call}"
        elif call.name in {"open", "openat", "creat"} and call.opened and not _is_known(call, own):
            yield f"by a name: {call}"
        elif call.name in _LOOKING and call.succeeded and not _is_looking_known(call, own):
            yield f"looked behind a link: {call}"


def _is_for_udevd(call: Call) -> bool:
    """Whether a call speaks with the machine's udevd, or listens to it: no image has a part in that."""
    match call.name:
        case "bind":
            return "sa_family=AF_NETLINK" in call.arguments
        case "connect":
            return 'sun_path="/run/udev/control"' in call.arguments
        case "sendto":
            return ', "udev-' in call.arguments
        case _:
            return False


def _asked(call: Call) -> tuple[str, ...]:
    """Return the paths that the kernel is asked for; what is written into a link, or read from one, is only text.

    Those of openat2 are inside of the root, whatever they are called: what it opened shows.
    """
    match call.name:
        case "symlink" | "symlinkat" | "openat2":
            return ()
        case "readlink" | "readlinkat":
            return call.paths[:1]
        case _:
            return call.paths


def _is_known(call: Call, own: tuple[str, ...]) -> bool:
    path = call.paths[0] if call.paths else ""
    if path.startswith("/"):
        return path.startswith(own) or _SYSTEM.fullmatch(path) is not None
    if "/" in path and not call.directory.startswith(own) and not call.directory.startswith(("/usr", "/proc", "/sys")):
        return False
    return (
        path == "."
        or any(flag in call.arguments for flag in ("O_NOFOLLOW", "O_EXCL"))
        or call.name in _UNFOLLOWED
        or call.directory.startswith((*own, "/proc", "/sys", "/usr", "/dev"))
    )


def _is_looking_known(call: Call, own: tuple[str, ...]) -> bool:
    path = call.paths[0] if call.paths else ""
    # Without a path it is an open file's. What has a whole path is no image's: images have no place among ours.
    is_one = path == "" or path.startswith("/") or "AT_SYMLINK_NOFOLLOW" in call.arguments
    return is_one or call.directory.startswith((*own, "/proc", "/sys", "/usr", "/dev"))


def _started(done: Done) -> Iterator[str]:
    """Yield programs that aren't this machine's own, or not those of the gateway, started or only tried.

    Behind a chroot a path says nothing of whose program it is. But those of an image are on a file system without
    programs, or are scripts whose shell is another one of them: the kernel refuses both, and not because they aren't
    there.
    """
    known = _HELPERS | process.PACKAGES.keys()
    for call in done.calls:
        if call.name not in {"execve", "execveat"}:
            continue
        path = call.paths[0]
        is_known = Path(path).name in known or not call.succeeded
        if call.name == "execveat" or not path.startswith(_PROGRAMS) or not is_known:
            yield f"started: {call}"
        elif not call.succeeded and "ENOENT" not in call.result:
            yield f"tried to start: {call}"


def secrets_on(file: Path) -> bool:
    """Whether anything from outside has got into an image."""
    return hostile_roots.SECRET in file.read_bytes()
