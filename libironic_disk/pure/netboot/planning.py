"""What has to be published for a machine and what it then has to be told; nothing is published here.

A plan follows from the task, the loaders, the interface's settings and what was seen of the files that are to be
published. The same of these give the same plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.loaders import LoaderSource
from libironic_disk.pure.netboot.names import Purpose, node_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file of this machine as it was seen: its size in bytes, and what changes when its contents do."""

    path: PurePath
    size: int
    device: int
    inode: int
    modified: int
    changed: int

    @property
    def identity(self) -> str:
        """A name that two files share only if they are the same, unchanged."""
        facts = (self.device, self.inode, self.size, self.modified, self.changed)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


SharedContent: TypeAlias = bytes | LoaderSource
"""What machines share: text of ours, or a loader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootPlan:
    """What one root directory gets for a machine.

    Attributes:
        node: the machine's name.
        macs: of its network cards.
        purpose: for which of its two lives.
        shared: loaders and what they read first, by path.
        images: kernels, RAM disks and ISOs by path; all in directories of the machine's own.
        configs: what is read last and written last, by path: one for each network card.
    """

    node: str
    macs: tuple[MacAddress, ...]
    purpose: Purpose
    shared: Mapping[str, SharedContent]
    images: Mapping[str, SeenFile]
    configs: Mapping[str, bytes]

    @property
    def directories(self) -> tuple[str, ...]:
        """The machine's own directories."""
        return tuple(dict.fromkeys(path.rpartition("/")[0] for path in self.images))

    @property
    def files(self) -> tuple[str, ...]:
        """Every path, in the order in which they are published."""
        return (*self.shared, *self.images, *self.configs)


def image_directory(node: str, purpose: Purpose, files: Mapping[str, SeenFile]) -> str:
    """Return a directory for files that belong together.

    Other files have another one: a machine that is loading a kernel gets the RAM disk that belongs to it.
    """
    identities = sorted((name, file.identity) for name, file in files.items())
    digest = hashlib.sha256(repr(identities).encode()).hexdigest()[:16]
    return f"{node_directory(node)}/{purpose}-{digest}"
