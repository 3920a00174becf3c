"""From what an image's bytes look like and what its owner says it is, to the one format it is treated as.

Nothing is ever treated as a format because it happens to look like one: a raw image stays raw through the whole
deployment, whatever a guest once wrote into its first sectors.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from libironic_disk.errors import FormatMismatch, ImageRefused


class Engine(StrEnum):
    """What puts an image on the disk."""

    NATIVE = "native"
    """This package, in one pass from the source to the disk."""
    QEMU_IMG = "qemu-img"
    """The program, which reads files only: what comes from elsewhere, or is compressed, is kept in one first."""


class Proof(StrEnum):
    """What shows that an image came whole."""

    CHECKSUM = "checksum"
    """It has the checksum that its owner gave."""
    LENGTH = "length"
    """It has as many bytes as its file, its server or its owner said."""
    NONE = "none"
    """Nobody said anything: what its format doesn't ask for may be missing at its end."""


class ImageFormat(StrEnum):
    """Formats that an image may be declared as or recognised as.

    RAW and QCOW2 are written by either engine; VMDK, VHD, VHDX and VDI by qemu-img; the others by none.
    """

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    VDI = "vdi"
    QED = "qed"
    ISO = "iso"
    LUKS = "luks"


FOREIGN: Final = frozenset({ImageFormat.VMDK, ImageFormat.VHD, ImageFormat.VHDX, ImageFormat.VDI})
"""The formats that only qemu-img writes."""

WRITTEN: Final = {
    Engine.NATIVE: frozenset({ImageFormat.RAW, ImageFormat.QCOW2}),
    Engine.QEMU_IMG: FOREIGN | {ImageFormat.RAW, ImageFormat.QCOW2},
}
"""The formats that each engine writes."""

_CONTENT: Final = frozenset({"raw", "gpt", "iso", "luks"})
"""What a disk or a partition may hold as it is; "gpt" stands for anything whose sector 0 ends in 0x55 0xAA."""

_AMBIGUOUS: Final = frozenset({"iso", "luks"})


def settle(
    found: frozenset[str], declared: ImageFormat | None, *, image: str, engine: Engine = Engine.NATIVE
) -> ImageFormat:
    """Decide what an image is.

    Args:
        found: every signature that its bytes carry, by oslo.utils' names; ``raw`` stands for none.
        declared: what its owner says it is, None where nobody said anything.
        image: its name in errors.
        engine: what is to write it.

    Raises:
        ImageRefused: a format that the engine doesn't write, several formats at once, or one that must be declared.
        FormatMismatch: it was declared as something else.
    """
    if declared is not None and declared not in WRITTEN[engine]:
        raise _not_written(declared, image)
    containers = found - _CONTENT
    seen = " and ".join(sorted(found))
    # A hybrid ISO with a partition table is ordinary content. A container that is anything else too was made to be
    # taken for one format by whoever checks it and for the other by whoever reads it.
    if len(containers) > 1 or (containers and found - containers - {"raw"}):
        raise ImageRefused(image=image, reason=f"its bytes are {seen} at once")
    if containers:
        return _container(seen, declared, image, engine)
    if declared not in (None, ImageFormat.RAW):
        raise FormatMismatch(image=image, declared=str(declared), found=seen)
    if declared is None and found & _AMBIGUOUS:
        reason = f"its bytes are {seen}; declare it as raw if it should be written as it is"
        raise ImageRefused(image=image, reason=reason)
    return ImageFormat.RAW


def _container(seen: str, declared: ImageFormat | None, image: str, engine: Engine) -> ImageFormat:
    if declared not in (None, seen):
        raise FormatMismatch(image=image, declared=str(declared), found=seen)
    if seen not in WRITTEN[engine]:
        raise _not_written(seen, image)
    return ImageFormat(seen)


def _not_written(name: str, image: str) -> ImageRefused:
    other = f", or choose engine={Engine.QEMU_IMG}, which writes it onto a partition" if name in FOREIGN else ""
    return ImageRefused(image=image, reason=f"{name} images are not written; convert it to qcow2 or raw{other}")
