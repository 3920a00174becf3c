"""A systemd-udevd for one test and one disk, which nobody else on the machine notices.

The scenario runs in a process of its own, in new mount, network and pid namespaces: /run with udev's database, the
links under /dev and the rules are private, uevents and udev's answers to them stay in the network namespace, and the
end of the pid namespace ends udevd, its workers and whatever the scenario started, however it went.

The rules are the stock ones for block devices, held to one disk. What remains of udevd for all other disks is the
shared lock that it takes for a moment on each event; it neither reads nor watches them.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

NO_WATCH = 'KERNEL=="{disk}", OPTIONS+="nowatch"'
"""Keeps udevd from making the kernel read the table again whenever somebody closes the whole disk."""

QUEUE = Path("/run/udev/queue")

_PROGRAM = "/lib/systemd/systemd-udevd"
_STOCK = ("60-block.rules", "60-persistent-storage.rules")
_RULES = Path("/usr/lib/udev/rules.d")
_OTHER_RULES = ("/etc/udev/rules.d", "/usr/local/lib/udev/rules.d", "/lib/udev/rules.d")
_LINKS = (Path("/dev/block"), Path("/dev/char"), Path("/dev/disk"))
_NAMESPACES = ("--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# udevd takes pid 1 for systemd and then kills its whole cgroup when idle: the scenario must not be pid 1.
_NOT_AS_PID_1 = ("sh", "-c", '"$@"; exit $?', "sh")


def under_udevd(
    scenario: Callable[[str], Result], node: str, *, rules: Sequence[str] = (), timeout: float = 100
) -> Result:
    """Run a module's function with a disk as its argument while udevd runs, and return its result, sent as JSON.

    Args:
        scenario: a function at the top of a module.
        node: the disk.
        rules: lines to follow the stock rules; ``{disk}`` stands for the kernel's name of the disk.
        timeout: seconds.
    """
    name = Path(node).name
    ours = "\n".join(rules).replace("{disk}", name)
    argv = [sys.executable, "-m", "tests.support.udevd", scenario.__module__, scenario.__name__, node, ours]
    with _link_folders():
        ended = subprocess.run(
            ["unshare", *_NAMESPACES, *_NOT_AS_PID_1, *argv],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    assert ended.returncode == 0, f"{scenario.__name__} under a private udevd failed:\n{ended.stdout}{ended.stderr}"
    result: Result = json.loads(ended.stdout)
    return result


def settle() -> None:
    """Wait until udevd has worked off every event."""
    subprocess.run(["udevadm", "settle", "--timeout=20"], check=True)


def trigger(*names: str) -> None:
    """Let the kernel send a change event of block devices by their kernel names."""
    for name in names:
        Path(f"/sys/class/block/{name}/uevent").write_text("change")


def until(condition: Callable[[], bool], *, within: float) -> bool:
    """Wait for a condition and return whether it came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def _link_folders() -> Iterator[None]:
    """Have folders over which the namespace can put its own: /dev is the same for all namespaces."""
    made = [folder for folder in _LINKS if not folder.exists()]
    try:
        for folder in made:
            folder.mkdir()
        yield
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _running(disk: str, rules: str) -> Iterator[None]:
    stock = {name: (_RULES / name).read_text() for name in _STOCK}
    for folder in ("/run", *_LINKS, *(path for path in _OTHER_RULES if Path(path).is_dir()), _RULES):
        subprocess.run(["mount", "-t", "tmpfs", "private", folder], check=True)
    guard, end = f'KERNEL!="{disk}|{disk}p*", GOTO="others"\n', 'LABEL="others"\n'
    for name, text in {**stock, "99-test.rules": rules + "\n"}.items():
        (_RULES / name).write_text(guard + text + end)
    log = Path("/run/udevd.log")
    with log.open("w") as file:
        udevd = subprocess.Popen([_PROGRAM], stdout=file, stderr=file)
    try:
        alive = until(Path("/run/udev/control").exists, within=10) and udevd.poll() is None
        if alive:
            subprocess.run(["udevadm", "control", "--ping", "--timeout=10"], check=True)
            trigger(disk)
            settle()
            yield
        if not alive or udevd.poll() is not None:
            raise RuntimeError(f"{_PROGRAM} (package udev) ended by itself: {log.read_text()}")
    finally:
        udevd.terminate()
        udevd.wait(10)


def _main(module: str, function: str, node: str, rules: str) -> None:
    with _running(Path(node).name, rules):
        result = getattr(importlib.import_module(module), function)(node)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
