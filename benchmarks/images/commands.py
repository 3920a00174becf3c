"""Programs that write an image to a disk: what they are called with, and the time that they take."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.images.works import Image, Rival

_HANGS_AFTER: Final = 90
_DD: Final = "dd bs=4M conv=fsync status=none"


def command(rival: Rival, image: Image, source: str, device: str) -> list[str]:
    """Return the argument list with which a rival writes an image to a disk.

    Raises:
        ValueError: the rival isn't a command.
    """
    curl = f"curl --silent --show-error --fail {shlex.quote(source)}"
    output = f"{_DD} of={shlex.quote(device)}"
    match rival:
        case Rival.QEMU_IMG | Rival.QEMU_IMG_HTTP:
            found = "qcow2" if image.is_qcow2 else "raw"
            options = f"-n -t none -W -m 8 -f {found} -O raw"
            return ["qemu-img", "convert", *options.split(), source, device]
        case Rival.DD:
            return _pipeline(curl, output)
        case Rival.GUNZIP:
            return _pipeline(curl, "gunzip", output)
        case Rival.ZSTD:
            return _pipeline(curl, "zstd --decompress --quiet", output)
        case _:
            raise ValueError(f"{rival} is no command")


def _pipeline(*commands: str) -> list[str]:
    return ["bash", "-o", "pipefail", "-c", " | ".join(commands)]


def seconds(argv: Sequence[str], log: Path) -> float:
    """Run a program to its end and return the time that it took, its start included.

    Raises:
        TimeoutExpired: it hangs, as qemu-img's curl driver does now and then, and was killed.
        SystemExit: it failed; tells what it said last.
    """
    with log.open("wb") as said:
        began = time.perf_counter()
        # A group of its own, so that a pipeline's programs can be ended with their shell.
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        ) as process:
            try:
                status = process.wait(_HANGS_AFTER)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        took = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{shlex.join(argv)}\nended with {status}:\n{log.read_text(errors='replace')[-4000:]}")
    return took
