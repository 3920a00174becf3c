"""What a careless library would do with a hostile root: each is to be seen, else tests that see nothing prove nothing.

Some are the library itself with one safeguard taken out.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from libironic_disk.errors import BootImpossible
from libironic_disk.machine.trees import rootfs
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB

_PLACE = "etc/default/grub"
_STOPPED = threading.Event()


@contextmanager
def _mounted(node: str, *options: str) -> Iterator[Path]:
    """Mount as mount(8) does by default: with devices and programs."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", *options, node, folder], check=True)
        try:
            yield Path(folder)
        finally:
            # umount(8) would be one program more than the library has.
            assert ctypes.CDLL(None).umount2(folder.encode(), 0) == 0


def _plainly(root: int, path: str, flags: int) -> int:
    return os.open(path.lstrip("/") or ".", flags | os.O_CLOEXEC, dir_fd=root)


def resolve_plainly(node: str, work: Callable[[str], object]) -> object:
    """Do the library's work with openat(2) in the place of openat2(2)."""
    with mock.patch.object(rootfs, "best_opener", return_value=_plainly):
        return work(node)


def read_by_name(node: str) -> object:
    with _mounted(node) as root:
        return len((root / _PLACE).read_bytes())


def write_by_name(node: str) -> object:
    with _mounted(node) as root, (root / _PLACE).open("ab") as file:
        return file.write(b"more\n")


def list_by_name(node: str) -> object:
    with _mounted(node) as root:
        return len(list((root / "boot/loader").iterdir()))


def look_by_name(node: str) -> object:
    """Only ask what is there: it says of the machine what nobody may know of it."""
    with mounted(node, FileSystem.EXT4) as root:
        return os.stat(_PLACE, dir_fd=root).st_size


def open_device(node: str) -> object:
    with _mounted(node) as root:
        os.close(os.open(root / _PLACE, os.O_RDONLY))
    return None


def wait_for_a_writer(node: str) -> object:
    with _mounted(node) as root:
        return (root / _PLACE).read_bytes()


def run_by_name(node: str) -> object:
    with _mounted(node) as root:
        return subprocess.run([root / "usr/sbin/update-grub"], check=False, capture_output=True).returncode


def run_without_programs(node: str) -> object:
    """Try it where the mount keeps it from being done."""
    with _mounted(node, "-o", "noexec,nosuid") as root:
        try:
            return subprocess.run([root / "usr/sbin/update-grub"], check=False, capture_output=True).returncode
        except PermissionError as error:
            return str(error)


def run_in_root(node: str) -> object:
    with _mounted(node) as root:
        return subprocess.run(["chroot", root, "/bin/sh", "-c", ":"], check=False, capture_output=True).returncode


def run_from_root(node: str) -> object:
    """Look for a program first in the directory that is the current one."""
    with _mounted(node) as root:
        return subprocess.run(["sh"], cwd=root, env={"PATH": "."}, check=False, capture_output=True).returncode


def obey_settings(node: str) -> object:
    """Have a shell read its settings, as grub-mkconfig does."""
    with _mounted(node) as root:
        argv = ["sh", "-c", '. "$1"', "sh", str(root / _PLACE)]
        return subprocess.run(argv, check=False, capture_output=True).returncode


def read_all(node: str) -> object:
    with _mounted(node) as root, (root / _PLACE).open("rb") as file:
        return len(file.read(200 * MIB))


def raise_untyped(node: str) -> object:
    raise ValueError("which is none of the package's errors")


def say_unprintable(node: str) -> object:
    raise BootImpossible(device=node, reason="\x1b[2J")


def leave_descriptor(node: str) -> object:
    return os.open("/dev/null", os.O_RDONLY)


def leave_file(node: str) -> object:
    return tempfile.mkstemp()[1]


def leave_thread(node: str) -> object:
    threading.Thread(target=_STOPPED.wait, args=(5,), daemon=True).start()
    return None


def leave_process(node: str) -> object:
    return subprocess.Popen(["sleep", "1"]).pid


def leave_mount(node: str) -> object:
    folder = tempfile.mkdtemp()
    return subprocess.run(["mount", node, folder], check=True).returncode


CARELESS: Mapping[str, Callable[[str], object]] = {
    function.__name__: function
    for function in (
        *(read_by_name, write_by_name, list_by_name, look_by_name, open_device, wait_for_a_writer),
        *(run_by_name, run_without_programs, run_in_root, run_from_root, obey_settings),
        *(read_all, raise_untyped, say_unprintable),
        *(leave_descriptor, leave_file, leave_thread, leave_process, leave_mount),
    )
}
