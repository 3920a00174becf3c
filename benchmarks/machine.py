"""What a benchmark ran on: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

_PROGRAMS = (
    ("e2fsprogs", "mke2fs -V"),
    ("dosfstools", "mkfs.vfat --help"),
    ("util-linux", "mkswap --version"),
    ("parted", "parted --version"),
    ("gdisk", "sgdisk --version"),
    ("xorriso", "xorriso -version"),
    ("qemu-img", "qemu-img --version"),
    ("curl", "curl --version"),
    ("gzip", "gzip --version"),
    ("zstd", "zstd --version"),
    ("nginx", "nginx -v"),
)


def describe() -> list[tuple[str, str]]:
    """Return names and values: processor, memory, kernel, system, versions, load before the start."""
    load, *_ = os.getloadavg()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    programs = [f"{package} {_version(command.split())}" for package, command in _PROGRAMS]
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{memory / 2**30:.0f} GiB"),
        ("kernel", platform.release()),
        ("system", platform.freedesktop_os_release()["PRETTY_NAME"]),
        ("Python", platform.python_version()),
        ("programs", ", ".join(programs)),
        ("udevd", "running" if Path("/run/udev/control").exists() else "not running"),
        ("load before", f"{load:.2f}"),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"
