"""The ISO that is patched: 4 GiB in the layout that Ubuntu's and Fedora's have, real bytes all through."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from lab.isolayouts import IsoLayout, System, make
from libironic_disk import bootiso
from libironic_disk.units import GIB, MIB

SIZE: Final = 4 * GIB
_FILES: Final = 8
_INITRD: Final = 48 * MIB
_OTHERS: Final = _INITRD + 16 * MIB


def large_iso(folder: Path) -> Path:
    """Make the ISO in a directory and return where it is.

    xorriso makes a small one, with GRUB for both firmwares, an appended EFI system partition and a tree in a partition
    of its own. Its large files are put by the library; sgdisk has to be content with the tables afterwards.
    """
    small, large = folder / "small.iso", folder / "large.iso"
    make(IsoLayout.GRUB, small, system=System(initrd=os.urandom(_INITRD)))
    put: dict[str, bytes | Path] = {}
    for number in range(_FILES):
        path = folder / f"data{number}"
        with path.open("wb") as file:
            for _ in range((SIZE - _OTHERS) // _FILES // MIB):
                file.write(os.urandom(MIB))
        put[f"/pool/data{number}"] = path
    with bootiso.open_iso(small) as iso:
        iso.patch(files=put).write(large)
    small.unlink()
    for content in put.values():
        if isinstance(content, Path):
            content.unlink()
    return large
