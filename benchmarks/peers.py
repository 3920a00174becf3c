"""Virtual environments for the programs we compare ourselves with: their dependencies aren't ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab import cache_directory

OURS: Final = "libironic_disk"
PEER: Final = "ironic-python-agent"

# On some machines even root can't look at everything of process 1. fuser complains, the agent takes the complaint for a
# disk in use, and retries until it gives up. Among process numbers of its own it finds only itself, and is faster. What
# it started ends with it, too.
OWN_PROCESSES: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, which is made from ``NAME.txt`` beside this unless it is there."""
    wanted = Path(__file__).with_name(f"{name}.txt")
    made_from = f"{os.path.realpath(sys.executable)}\n{wanted.read_text()}"
    directory = cache_directory().absolute() / "peers" / name
    stamp = directory / f".installed-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
    python = directory / "bin" / "python"
    if not stamp.exists():
        print(f"{os.path.relpath(directory)}: installing the versions of {os.path.relpath(wanted)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)], check=True)
        stamp.touch()
    return python
