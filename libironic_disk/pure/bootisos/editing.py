"""What has to change in a boot ISO for what its owner wants: planned as new contents of files, nothing written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from libironic_disk.errors import BootIsoRefused
from libironic_disk.pure.boot.kernelparams import ParameterChange
from libironic_disk.pure.bootisos import checksumfiles, earlyfiles, labels, paths
from libironic_disk.pure.bootisos.contents import Contents
from libironic_disk.pure.bootisos.discovering import Discovery
from libironic_disk.pure.bootisos.initrds import initrds_of
from libironic_disk.pure.bootisos.model import BootConfig, Place
from libironic_disk.pure.bootisos.relisting import relist
from libironic_disk.pure.bootisos.report import ConfigChange, PatchReport
from libironic_disk.pure.iso.changing import IsoEdit, MediaChecksum
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.loaders.config import LARGEST_CONFIG
from libironic_disk.pure.loaders.reading import changed_config, read_config
from libironic_disk.pure.ropes import Base, Rope

MOST_EARLY_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to become of a boot ISO; paths are as the caller gave them.

    ``initrds`` are the initial RAM disks that get ``initrd_files``; None for each that a kernel line names.
    """

    parameters: ParameterChange = field(default_factory=ParameterChange)
    files: Mapping[str, Rope] = field(default_factory=dict)
    initrd_files: Mapping[str, bytes] = field(default_factory=dict)
    initrds: Sequence[str] | None = None
    volume_id: str | None = None
    media_checksum: MediaChecksum = MediaChecksum.REMOVED

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        asked = self.parameters or self.files or self.initrd_files or self.volume_id is not None
        return bool(asked) or self.media_checksum is MediaChecksum.RENEWED


def plan(image: IsoImage, base: Base, found: Discovery, wanted: Wanted, *, name: str) -> tuple[IsoEdit, PatchReport]:
    """Decide the new contents of every file that changes.

    Raises:
        BootIsoRefused: a path is wrong, there is no kernel line or no initial RAM disk to change, or the volume id
            can't be told to the boot loaders.
        KernelParametersInvalid: a boot loader can't hand these parameters on.
        LoaderConfigRefused: a configuration can't be changed so.
        FatImageRefused: the EFI system partition has no room for what changes in it.
        IsoInvalid, IsoUnsupported: the ISO is damaged, or can't be changed so.
    """
    return _Planner(image, base, found, wanted, name).plan()


class _Planner:
    def __init__(self, image: IsoImage, base: Base, found: Discovery, wanted: Wanted, name: str) -> None:
        self._image = image
        self._base = base
        self._found = found
        self._wanted = wanted
        self._name = name
        self._contents = Contents(image, base, found, name=name)
        self._warnings: list[str] = []

    def plan(self) -> tuple[IsoEdit, PatchReport]:
        put = self._put_files()
        configs = tuple(self._change_configs())
        initrds = tuple(self._extend_initrds())
        boot_images = self._contents.pack()
        lists = relist(self._contents, self._base, self._found.views[None], leaving_out=put)
        self._warn_of_signatures()
        edit = IsoEdit(
            files=dict(self._contents.changed),
            boot_images=boot_images,
            volume_id=self._wanted.volume_id,
            media_checksum=self._wanted.media_checksum,
        )
        report = PatchReport(
            configs=configs,
            files=put,
            initrds=initrds,
            checksum_files=lists,
            volume_id=self._image.volume_id if self._wanted.volume_id is None else self._wanted.volume_id,
            media_checksum=self._media_checksum(),
            warnings=tuple(self._warnings),
        )
        return edit, report

    def _media_checksum(self) -> MediaChecksum | None:
        there = self._image.media_checksum is not None or self._wanted.media_checksum is MediaChecksum.RENEWED
        return self._wanted.media_checksum if there else None

    def _put_files(self) -> tuple[str, ...]:
        files = paths.checked_files(self._wanted.files, iso=self._name)
        for path, content in files.items():
            self._check_place(path)
            self._contents.put(path, content)
        return tuple(sorted(files))

    def _check_place(self, path: str) -> None:
        """Refuse a file where a directory is, below a file, or behind a symbolic link."""
        for each in (path, *paths.parents(path)):
            there = self._image.find(each)
            reason = ""
            if there is None:
                continue
            if there.is_symlink:
                reason = f"{each} is a symbolic link"
            elif there.is_dir and each == path:
                reason = f"{each} is a directory"
            elif not there.is_dir and each != path:
                reason = f"{each} is a file"
            if reason:
                raise BootIsoRefused(iso=self._name, reason=f"the file {path} can't be put: {reason}")

    def _change_configs(self) -> Iterator[ConfigChange]:
        new_label = self._new_label()
        lines = 0
        for config in self._found.configs:
            text = self._contents.text(config.place, LARGEST_CONFIG + 1)
            before = read_config(text, config.kind, prefix=config.prefix).lines
            lines += len(before)
            new = text if new_label is None else self._renamed(text, new_label, config)
            if before and self._wanted.parameters:
                new = changed_config(new, config.kind, self._wanted.parameters)
            if new != text:
                after = read_config(new, config.kind, prefix=config.prefix).lines
                self._contents.change(config.place, new)
                yield ConfigChange(place=config.place, kind=config.kind, before=before, after=after)
        if not lines and self._wanted.parameters:
            looked_at = ", ".join(str(config.place) for config in self._found.configs) or "nothing"
            reason = f"no line that starts a kernel was found, in {looked_at}"
            raise BootIsoRefused(iso=self._name, reason=reason)

    def _new_label(self) -> str | None:
        """Return the volume id that configurations have to look for, None where that stays the same."""
        new = self._wanted.volume_id
        return None if new is None or new == self._image.volume_id or not self._image.volume_id else new

    def _renamed(self, text: bytes, new_label: str, config: BootConfig) -> bytes:
        renamed = labels.renamed(text, self._image.volume_id, new_label)
        if renamed != text and not labels.is_plain(new_label):
            reason = (
                f"{config.place} looks for the volume id {self._image.volume_id!r}, and {new_label!r} can't be written "
                "there; letters, digits and ._+- can"
            )
            raise BootIsoRefused(iso=self._name, reason=reason)
        return renamed

    def _extend_initrds(self) -> Iterator[Place]:
        if not self._wanted.initrd_files:
            return
        files = paths.checked_files(self._wanted.initrd_files, iso=self._name)
        if sum(map(len, files.values())) > MOST_EARLY_BYTES:
            reason = f"files for the initial RAM disk may have {MOST_EARLY_BYTES} bytes together"
            raise BootIsoRefused(iso=self._name, reason=reason)
        archive = earlyfiles.archive(files)
        for place in self._initrds():
            self._contents.append(place, earlyfiles.padding(self._contents.size(place)) + archive)
            yield place

    def _initrds(self) -> Sequence[Place]:
        if self._wanted.initrds is not None:
            return list(dict.fromkeys(self._chosen(path) for path in self._wanted.initrds))
        there, missing = initrds_of(self._found.configs, self._contents)
        self._warnings += [f"{words}, so that nothing was added to it" for words in missing]
        if not there:
            raise BootIsoRefused(iso=self._name, reason="no kernel line in it names an initial RAM disk that is there")
        return there

    def _chosen(self, path: str) -> Place:
        found = self._contents.found(Place(path=paths.checked(path, iso=self._name)))
        if found is None:
            raise BootIsoRefused(iso=self._name, reason=f"it has no file {path}")
        return found

    def _warn_of_signatures(self) -> None:
        view = self._found.views[None]
        for path in sorted(self._contents.changed):
            for suffix in checksumfiles.SIGNATURES:
                if view.find(path + suffix) is not None:
                    name = posixpath.basename(path)
                    self._warnings.append(f"{path}{suffix} is a signature of {name}, which isn't what was signed now")
