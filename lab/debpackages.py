"""Debian's packages, unpacked into a directory and never installed: this machine stays as it is.

Some of them would change it. memtest86+ for one gets into the menu of this machine's own GRUB.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def update() -> None:
    """Let apt know which versions its archives have by now."""
    subprocess.run(["apt-get", "-qq", "update"], check=True)


def unpack(tree: Path, names: Sequence[str]) -> None:
    """Fetch packages and unpack them into a directory; this needs the network."""
    with tempfile.TemporaryDirectory(prefix="packages-") as folder:
        # As root apt would rather fetch as somebody else, who can't write here, and says so at length.
        argv = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names]
        subprocess.run(argv, cwd=folder, check=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(tree)], check=True)
