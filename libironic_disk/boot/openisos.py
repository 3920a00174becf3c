"""ISOs that are open because patched ones of them are published: each is open once, however many machines have it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from libironic_disk.bootiso import BootIso, open_iso
from libironic_disk.errors import SourceFailed, reason_of

FileIdentity: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True)
class _Shared:
    iso: BootIso
    holders: set[str] = field(default_factory=set)


class OpenIsos:
    """Open ISOs by the names of those who need them; any thread may ask."""

    def __init__(self) -> None:
        self._shared: dict[FileIdentity, _Shared] = {}
        self._lock = threading.Lock()

    def hold(self, holder: str, path: Path) -> BootIso:
        """Return an ISO that stays open until :meth:`release`; what the holder had before is released.

        Raises:
            SourceFailed, IsoInvalid, IsoUnsupported, BootIsoRefused: as :func:`~libironic_disk.bootiso.open_iso`.
        """
        with self._lock:
            identity = identity_of(path)
            shared = self._shared.get(identity)
            if shared is None:
                shared = self._shared[identity] = _Shared(open_iso(path))
            shared.holders.add(holder)
            self._let_go(holder, but=identity)
            return shared.iso

    def release(self, holder: str) -> None:
        """Close what nobody else holds; a holder of nothing is no error."""
        with self._lock:
            self._let_go(holder, but=None)

    def _let_go(self, holder: str, *, but: FileIdentity | None) -> None:
        for identity, shared in list(self._shared.items()):
            if identity != but:
                shared.holders.discard(holder)
                if not shared.holders:
                    del self._shared[identity]
                    shared.iso.close()


def identity_of(path: Path) -> FileIdentity:
    """Return what tells a file from what it may be later: an ISO that was replaced is opened anew.

    Raises:
        SourceFailed: it isn't there.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise SourceFailed(source=str(path), reason=reason_of(error)) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
