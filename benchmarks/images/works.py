"""The rows of the table: which image comes from where, who else writes it, and how much longer that must take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Image(StrEnum):
    """The images, by the names of their files; all but the last two have the same files in them."""

    RAW = "disk.raw"
    QCOW2 = "plain.qcow2"
    QCOW2_ZLIB = "zlib.qcow2"
    QCOW2_ZSTD = "zstd.qcow2"
    RAW_GZ = "disk.raw.gz"
    RAW_ZST = "disk.raw.zst"
    LARGE = "64-gib.qcow2"
    FEW_FILES = "few-files-in-4-gib.qcow2"
    FEW_FILES_HUGE = "few-files-in-1-tib.qcow2"

    @property
    def is_qcow2(self) -> bool:
        """Whether it is a qcow2 image."""
        return self.endswith(".qcow2")


class Rival(StrEnum):
    """What we are compared with; the words are the table's."""

    QEMU_IMG = "qemu-img convert"
    QEMU_IMG_HTTP = "qemu-img's curl driver"
    AGENT = "ironic-python-agent"
    DD = "curl | dd"
    GUNZIP = "curl | gunzip | dd"
    ZSTD = "curl | zstd -d | dd"
    FEW_FILES = "libironic_disk, 4 GiB virtual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The most that our time may be of a rival's."""

    rival: Rival
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An image to be written from a local file or over HTTP, and whom to beat; nobody, where memory alone counts."""

    name: str
    image: Image
    over_http: bool = False
    checked: bool = False
    bounds: tuple[Bound, ...] = ()


_AGENT_QCOW2: Final = Bound(rival=Rival.AGENT, at_most=0.25)
_DRIVER: Final = Bound(rival=Rival.QEMU_IMG_HTTP, at_most=1.2)

WORKS: Final = (
    Work(name="qcow2 plain, file", image=Image.QCOW2, bounds=(Bound(rival=Rival.QEMU_IMG, at_most=1),)),
    Work(name="qcow2 zlib, file", image=Image.QCOW2_ZLIB, bounds=(Bound(rival=Rival.QEMU_IMG, at_most=0.5),)),
    Work(name="qcow2 zstd, file", image=Image.QCOW2_ZSTD, bounds=(Bound(rival=Rival.QEMU_IMG, at_most=0.8),)),
    Work(name="raw sparse, file", image=Image.RAW, bounds=(Bound(rival=Rival.QEMU_IMG, at_most=1),)),
    Work(
        name="raw, HTTP, sha256",
        image=Image.RAW,
        over_http=True,
        checked=True,
        bounds=(Bound(rival=Rival.AGENT, at_most=0.6), Bound(rival=Rival.DD, at_most=1)),
    ),
    Work(
        name="qcow2 plain, HTTP, sha256",
        image=Image.QCOW2,
        over_http=True,
        checked=True,
        bounds=(_AGENT_QCOW2, _DRIVER),
    ),
    Work(
        name="qcow2 zlib, HTTP, sha256",
        image=Image.QCOW2_ZLIB,
        over_http=True,
        checked=True,
        bounds=(_AGENT_QCOW2, _DRIVER),
    ),
    Work(
        name="raw.gz, HTTP",
        image=Image.RAW_GZ,
        over_http=True,
        bounds=(Bound(rival=Rival.GUNZIP, at_most=0.3),),
    ),
    Work(
        name="raw.zst, HTTP",
        image=Image.RAW_ZST,
        over_http=True,
        bounds=(Bound(rival=Rival.ZSTD, at_most=0.6),),
    ),
    Work(name="qcow2 plain, 64 GiB, file", image=Image.LARGE),
    Work(name="qcow2 plain, 64 GiB, HTTP, sha256", image=Image.LARGE, over_http=True, checked=True),
    Work(
        name="qcow2, 100 MiB in 1 TiB, file",
        image=Image.FEW_FILES_HUGE,
        bounds=(Bound(rival=Rival.FEW_FILES, at_most=3),),
    ),
)
