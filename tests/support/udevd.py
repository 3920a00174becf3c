"""A systemd-udevd for one test and one disk, which nobody else on the machine notices.

A scenario runs in a process of its own, in new mount, network and pid namespaces. /run with udev's database, the links
under /dev and the rules are private to it; uevents are answered into its own network namespace; and with the pid
namespace ends whatever was started in it, udevd and its workers too, however the scenario ended.

The rules are the stock ones for block devices, held to the one disk. All that other disks get to feel is the shared
lock that udevd takes for a moment on whatever has an event.
"""

from __future__ import annotations

import importlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

QUEUE = Path("/run/udev/queue")
"""Is there as long as udevd has an event to work on."""

_UDEVD = "/lib/systemd/systemd-udevd"
_RULES = Path("/usr/lib/udev/rules.d")
_STOCK_RULES = ("60-block.rules", "60-persistent-storage.rules")
_OTHER_RULES = (Path("/etc/udev/rules.d"), Path("/usr/local/lib/udev/rules.d"))
_LINKS = (Path("/dev/block"), Path("/dev/char"), Path("/dev/disk"))
_UNSHARE = ("unshare", "--mount", "--propagation=private", "--net", "--pid", "--mount-proc", "--fork", "--kill-child")
# A udevd whose parent is pid 1 takes that for systemd and its own control group for one that it may kill.
_NOT_AS_PID_1 = ("sh", "-c", '"$@"; exit $?', "sh")


def under_udevd(scenario: Callable[[str], Result], node: str, *, rules: str = "") -> Result:
    """Run a function of a module in a world with udevd; return its result, which comes back as JSON.

    Args:
        scenario: gets the disk's node; an error in it, and udevd not running to its end, fail the test.
        node: the whole disk.
        rules: follow the stock rules; ``{disk}`` stands for the kernel's name of the disk.
    """
    assert Path(_UDEVD).exists(), f"{_UDEVD} isn't there; it comes with the package udev"
    argv = [sys.executable, "-m", "tests.support.udevd", scenario.__module__, scenario.__name__, node, rules]
    with _link_folders():
        ended = subprocess.run(
            [*_UNSHARE, *_NOT_AS_PID_1, *argv],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, f"{scenario.__name__} failed under a udevd of its own: {ended.stdout}{ended.stderr}"
    result: Result = json.loads(ended.stdout)
    return result


def send_change(name: str, synthetic: str = "") -> None:
    """Let the kernel send a change event of a block device, with variables as in the kernel's sysfs-uevent."""
    Path(f"/sys/class/block/{name}/uevent").write_text(f"change {synthetic}".strip())


def let_udevd_look() -> None:
    """Wait until udevd has seen every event and every closed node; some events may still wait for a lock."""
    subprocess.run(["udevadm", "control", "--ping", "--timeout=20"], check=True)


def settle() -> None:
    """Wait until udevd has nothing left to do, for two minutes at most: emulated, and under load, 20 s are too few."""
    subprocess.run(["udevadm", "settle", "--timeout=120"], check=True)


def until(condition: Callable[[], bool], *, within: float) -> bool:
    """Wait for a condition; return whether it came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def _link_folders() -> Iterator[None]:
    """Have folders to mount private ones on: every namespace sees the same /dev."""
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
def _udevd(node: str, rules: str) -> Iterator[None]:
    _furnish(node, rules)
    log = Path("/run/udevd.log")
    with log.open("w") as file:
        udevd = subprocess.Popen([_UDEVD], stdout=file, stderr=file)
    control = Path("/run/udev/control")
    try:
        until(lambda: control.exists() or udevd.poll() is not None, within=10)
        if control.exists():
            let_udevd_look()
            # It watches a disk from its first event on.
            send_change(Path(node).name)
            settle()
            yield
        if udevd.poll() is not None or not control.exists():
            raise RuntimeError(f"{_UDEVD} doesn't run here: {log.read_text()}")
    finally:
        udevd.terminate()
        udevd.wait(10)


def _furnish(node: str, rules: str) -> None:
    stock = {name: (_RULES / name).read_text() for name in _STOCK_RULES}
    for folder in (Path("/run"), *_LINKS, *_OTHER_RULES, _RULES):
        if folder.is_dir():
            subprocess.run(["mount", "-t", "tmpfs", "private", folder], check=True)
    disk = Path(node).name
    for name, text in {**stock, "99-test.rules": rules.replace("{disk}", disk)}.items():
        (_RULES / name).write_text(f'KERNEL!="{disk}|{disk}p*", GOTO="others"\n{text}\nLABEL="others"\n')
    # Locks and watches belong to the node's inode: with another one, the machine's own udevd sees nothing of ours.
    own = Path("/run") / disk
    os.mknod(own, stat.S_IFBLK | 0o600, os.stat(node).st_rdev)
    subprocess.run(["mount", "--bind", own, node], check=True)


def _main(module: str, scenario: str, node: str, rules: str) -> None:
    with _udevd(node, rules):
        result = getattr(importlib.import_module(module), scenario)(node)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
