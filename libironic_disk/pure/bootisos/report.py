"""What was changed in a boot ISO, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from libironic_disk.pure.bootisos.model import Place
from libironic_disk.pure.iso.changing import MediaChecksum
from libironic_disk.pure.loaders.config import ConfigKind, KernelLine


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """A configuration file that changed: its kernel lines before and after, which correspond one to one."""

    place: Place
    kind: ConfigKind
    before: tuple[KernelLine, ...]
    after: tuple[KernelLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchReport:
    """What a patch changed, and what its owner should know.

    Attributes:
        configs: the configuration files that changed.
        files: what was put, by path in the tree.
        initrds: the initial RAM disks that got files.
        checksum_files: lists of checksums that were made true again, by path.
        volume_id: the volume's name afterwards.
        media_checksum: what became of the MD5 that is implanted for checks of the medium; None if there is none.
        size: bytes of the patched ISO.
        inline_size: bytes that are kept beside the base.
        warnings: what may not work as its owner wishes, in words.
    """

    configs: tuple[ConfigChange, ...] = ()
    files: tuple[str, ...] = ()
    initrds: tuple[Place, ...] = ()
    checksum_files: tuple[str, ...] = ()
    volume_id: str = ""
    media_checksum: MediaChecksum | None = None
    size: int = 0
    inline_size: int = 0
    warnings: tuple[str, ...] = ()
