"""Boot ISOs: what is in them that boots, and the same ISO with other kernel parameters or more files in it.

:func:`open_iso` looks at an ISO without mounting it: boot images, boot loaders, configuration and partition tables.
:meth:`BootIso.patch` makes a :class:`PatchedIso` of it, which is ranges of that file and a few new bytes. It can be
read at any offset, so that one ISO serves any number of machines, or be written out. :func:`patch_with_xorriso` has
xorriso do the same work. :func:`build_boot_iso` makes an ISO of a kernel and an initial RAM disk.

No ISO is ever changed in place, and nothing needs root.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from libironic_disk.errors import BootIsoRefused
from libironic_disk.events import Cancellation, EventSink, ignore
from libironic_disk.machine.isos import writing, xorriso
from libironic_disk.machine.isos.building import build as build_boot_iso
from libironic_disk.machine.isos.building import estimated_size
from libironic_disk.machine.isos.opening import JoinedFiles, OpenFile
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.bootisos import editing, paths
from libironic_disk.pure.bootisos.discovering import discover
from libironic_disk.pure.bootisos.model import BootConfig, BootLoader, LoaderKind, Place
from libironic_disk.pure.bootisos.report import ConfigChange, PatchReport
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.iso.changing import IsoEdit, MediaChecksum, edited
from libironic_disk.pure.iso.image import IsoImage, read_image
from libironic_disk.pure.loaders.config import ConfigKind, KernelLine, Reference
from libironic_disk.pure.ropes import Range, Rope

__all__ = [
    "BootConfig",
    "BootIso",
    "BootIsoSpec",
    "BootLoader",
    "ConfigChange",
    "ConfigKind",
    "IsoImage",
    "KernelLine",
    "KernelParameters",
    "LoaderKind",
    "MediaChecksum",
    "ParameterChange",
    "PatchReport",
    "PatchedIso",
    "Place",
    "Reference",
    "build_boot_iso",
    "estimated_size",
    "open_iso",
    "patch_with_xorriso",
]

NO_CHANGE: Final = ParameterChange()


def open_iso(path: Path | str) -> BootIso:
    """Open an ISO and find what boots from it; use it in a ``with``, or close it.

    Raises:
        SourceFailed: it isn't there, can't be read, or is no plain file and no block device.
        IsoInvalid: it is no ISO, is damaged or was cut off.
        IsoUnsupported: it is of a kind that isn't read here.
        BootIsoRefused: it has no boot record, so that nothing boots from it.
    """
    file = OpenFile(path)
    try:
        return BootIso(file)
    except BaseException:
        file.close()
        raise


class BootIso:
    """An open ISO; :func:`open_iso` makes one.

    Attributes:
        path: its file.
        size: its bytes.
        image: its trees, boot images and partition tables.
        loaders: the programs of boot loaders, by firmware.
        configs: their configuration files.
        unresolved: what couldn't be followed, in words.
    """

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._opened: weakref.WeakSet[OpenFile] = weakref.WeakSet((file,))
        self.path: Final = Path(file.name)
        self.size: Final = file.size
        self.image: Final[IsoImage] = read_image(file, name=file.name)
        if not self.image.boot_images:
            raise BootIsoRefused(iso=file.name, reason="it has no boot record (El Torito): nothing boots from it")
        self._found: Final = discover(self.image, file, name=file.name)
        self.loaders: Final[tuple[BootLoader, ...]] = self._found.loaders
        self.configs: Final[tuple[BootConfig, ...]] = self._found.configs
        self.unresolved: Final[tuple[str, ...]] = self._found.unresolved

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ISO and all files that were put; patched ISOs made of it can't be read any longer."""
        for file in self._opened:
            file.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of the ISO as it is, fewer only at the end.

        Raises:
            SourceChanged: it was written to after it was opened.
            SourceFailed: it can't be read, or was closed.
        """
        return self._file.read_at(offset, size)

    def read(self, path: str) -> bytes:
        """Return the contents of a file in the ISO's tree.

        Raises:
            BootIsoRefused: there is none.
            SourceChanged, SourceFailed: as :meth:`read_at`.
        """
        found = self.image.find(paths.checked(path, iso=self._file.name))
        if found is None or found.is_dir:
            raise BootIsoRefused(iso=self._file.name, reason=f"it has no file {path}")
        rope = self.image.content(found.path)
        return rope.read_at(self._file, 0, rope.size)

    def patch(
        self,
        *,
        parameters: ParameterChange = NO_CHANGE,
        files: Mapping[str, bytes | Path] | None = None,
        initrd_files: Mapping[str, bytes] | None = None,
        initrds: Sequence[str] | None = None,
        volume_id: str | None = None,
        media_checksum: MediaChecksum = MediaChecksum.REMOVED,
    ) -> PatchedIso:
        """Plan a changed ISO; nothing is written, and the ISO itself never changes.

        Args:
            parameters: what is to become of the parameters on every line that starts a kernel, of every loader.
            files: contents by path in the ISO's tree, of new files and of those that are replaced; a
                :class:`~pathlib.Path` is read where it is, whenever the patched ISO is, and must not change.
            initrd_files: contents by absolute path, for the initial RAM disk.
            initrds: the initial RAM disks that get them, by path in the tree; None for each that a kernel line names,
                the last of a line that names several.
            volume_id: another name of the volume; configurations that look for the old one look for the new one.
            media_checksum: whether an MD5 that was implanted (isomd5sum) is removed, or computed anew, for which the
                whole ISO is read once.

        Raises:
            BootIsoRefused: a path climbs, is a directory, or leads through a file or a symbolic link; contents are of
                another type; no line starts a kernel, or none names an initial RAM disk, and one is needed; the volume
                id can't be used.
            KernelParametersInvalid: a boot loader in it can't hand these parameters on.
            LoaderConfigRefused: a configuration in it can't be changed so.
            FatImageRefused: the EFI system partition has no room for what changes in it.
            IsoInvalid, IsoUnsupported: it is damaged, or of a kind that can't be changed so.
            SourceFailed, SourceChanged: the ISO, or a file that is put, can't be read.
        """
        asked = editing.Wanted(
            parameters=parameters, initrds=initrds, volume_id=volume_id, media_checksum=media_checksum
        )
        wanted, joined = self._wanted(asked, files or {}, initrd_files or {})
        if not wanted:
            rope, report = Rope.of(Range(0, self.size)), PatchReport(volume_id=self.image.volume_id)
        else:
            edit, report = self._plan(wanted, joined)
            rope = edited(self.image, joined, edit)
        return PatchedIso(rope, joined, replace(report, size=rope.size, inline_size=rope.inline_size))

    def _wanted(
        self, asked: editing.Wanted, files: Mapping[str, bytes | Path], initrd_files: Mapping[str, bytes]
    ) -> tuple[editing.Wanted, JoinedFiles]:
        """Complete what is asked by contents, once these are what they should be, and give where these are."""
        early = self._early(initrd_files, asked.initrds)
        joined, ropes = self._joined(files)
        return replace(asked, files=ropes, initrd_files=early), joined

    def _plan(self, wanted: editing.Wanted, joined: JoinedFiles) -> tuple[IsoEdit, PatchReport]:
        return editing.plan(self.image, joined, self._found, wanted, name=self._file.name)

    def _rewrite(
        self, wanted: editing.Wanted, joined: JoinedFiles, destination: Path, cancel: Cancellation | None
    ) -> PatchReport:
        edit, report = self._plan(wanted, joined)
        # A program takes some relative paths for options.
        xorriso.rewrite(self._file, self.image, joined, edit, destination.absolute(), cancel=cancel)
        return replace(report, size=destination.stat().st_size, media_checksum=None)

    def _joined(self, files: Mapping[str, bytes | Path]) -> tuple[JoinedFiles, dict[str, Rope]]:
        """Open the files that are put from where they are, and give the contents of all as ropes."""
        opened: dict[str, OpenFile] = {}
        ropes: dict[str, Rope] = {}
        try:
            for path, content in files.items():
                if isinstance(content, Path):
                    opened[path] = OpenFile(content)
                else:
                    ropes[path] = Rope.of(self._checked(path, content))
        except BaseException:
            for file in opened.values():
                file.close()
            raise
        self._opened.update(opened.values())
        joined = JoinedFiles((self._file, *opened.values()))
        for index, (path, file) in enumerate(opened.items(), 1):
            ropes[path] = Rope.of(Range(joined.start_of(index), file.size))
        return joined, ropes

    def _early(self, files: Mapping[str, bytes], initrds: Sequence[str] | None) -> dict[str, bytes]:
        """Return the files for initial RAM disks, if what is named fits: one without the other would change nothing."""
        if isinstance(initrds, str):
            raise BootIsoRefused(iso=self._file.name, reason=f"initrds is one text, {initrds!r}, and no row of paths")
        if initrds is not None and bool(initrds) != bool(files):
            reason = (
                "initial RAM disks were named and no files for them" if initrds else "no initial RAM disk was named"
            )
            raise BootIsoRefused(iso=self._file.name, reason=reason)
        return {path: self._checked(path, content) for path, content in files.items()}

    def _checked(self, path: str, content: object) -> bytes:
        """Return contents if they are bytes: a text, or a path as one, would else be left out without a word."""
        if not isinstance(content, bytes):
            reason = f"the contents of {path!r} are neither bytes nor a Path but {type(content).__name__}"
            raise BootIsoRefused(iso=self._file.name, reason=reason)
        return content


class PatchedIso:
    """A changed ISO that is in no file: ranges of the base, and new bytes; :meth:`BootIso.patch` makes one.

    Any thread may read from it, as long as its :class:`BootIso` is open.

    Attributes:
        size: its bytes.
        report: what was changed.
        etag: tells it from every other: the same for the same base and the same change.
    """

    def __init__(self, rope: Rope, base: JoinedFiles, report: PatchReport) -> None:
        self._rope = rope
        self._base = base
        self.size: Final = rope.size
        self.report: Final = report
        self.etag: Final = _etag(rope, base)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            SourceChanged: the base was written to after it was opened.
            SourceFailed: the base can't be read, or was closed.
        """
        return self._rope.read_at(self._base, offset, size)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``, a MiB at a time at most.

        Raises:
            SourceChanged, SourceFailed: as :meth:`read_at`.
        """
        end = self.size if stop is None else min(stop, self.size)
        return self._rope.slice(start, max(0, end - start)).chunks(self._base)

    def sha256(self) -> str:
        """Return the SHA-256 of the whole ISO, in hexadecimal; it is read for that.

        Raises:
            SourceChanged, SourceFailed: as :meth:`read_at`.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def write(self, destination: Path | str, *, sink: EventSink = ignore, cancel: Cancellation | None = None) -> None:
        """Write it into a file, which has its name only when it is complete and on the disk.

        Args:
            destination: the file; a plain one that is there is replaced, and nothing else ever is.
            sink: gets :class:`~libironic_disk.events.BytesMoved` about ten times a second.
            cancel: asked all the time.

        Raises:
            NotEnoughRoom: there are too few free bytes; nothing was written.
            PathFailed: it can't be made or written; nothing is left of it.
            SourceChanged, SourceFailed: as :meth:`read_at`.
            Cancelled: the caller wished so.
        """
        writing.write(self._rope, self._base, Path(destination), sink=sink, cancel=cancel)


def patch_with_xorriso(
    source: Path | str,
    destination: Path | str,
    *,
    parameters: ParameterChange = NO_CHANGE,
    files: Mapping[str, bytes | Path] | None = None,
    initrd_files: Mapping[str, bytes] | None = None,
    initrds: Sequence[str] | None = None,
    volume_id: str | None = None,
    cancel: Cancellation | None = None,
) -> PatchReport:
    """Have xorriso write a whole new ISO with the same changes that :meth:`BootIso.patch` plans.

    It is a second engine: it copies everything, and writes boot records and directories in its own way. The file has
    its name only when it is complete and on the disk.

    Args:
        source: the ISO.
        destination: the file; one that is there is replaced.
        parameters: as :meth:`BootIso.patch` has them, and so are the next ones.
        files: contents by path in the ISO's tree.
        initrd_files: contents by absolute path, for the initial RAM disk.
        initrds: the initial RAM disks that get them.
        volume_id: another name of the volume.
        cancel: kills xorriso.

    Raises:
        ToolMissing, ProgramFailed, ProgramTimedOut: xorriso.
        NotEnoughRoom, PathFailed: the file can't be written; nothing is left of it.
        Cancelled: the caller wished so.
        DiskError: whatever :func:`open_iso` and :meth:`BootIso.patch` raise.
    """
    with open_iso(source) as iso:
        asked = editing.Wanted(parameters=parameters, initrds=initrds, volume_id=volume_id)
        wanted, joined = iso._wanted(asked, files or {}, initrd_files or {})
        return iso._rewrite(wanted, joined, Path(destination), cancel)


def _etag(rope: Rope, base: JoinedFiles) -> str:
    digest = hashlib.sha256(f"{base.identity}\n".encode(errors="surrogateescape"))
    for piece in rope.pieces:
        if isinstance(piece, bytes):
            digest.update(f"{len(piece)}\n".encode() + piece)
        else:
            digest.update(f"{piece!r}\n".encode())
    return digest.hexdigest()[:32]
