"""What is on the media of one machine: ISOs that are built or patched, config drives, and what they are called."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from libironic_disk import configdrive
from libironic_disk.boot.media import BOOTABLE, SECOND, MediaKind, Slot, second_slots
from libironic_disk.boot.openisos import OpenIsos, identity_of
from libironic_disk.boot.readables import PublishedContent
from libironic_disk.configdrive import ConfigDrive, VolumeKind
from libironic_disk.machine.drives import iso_image
from libironic_disk.machine.isos import building
from libironic_disk.machine.media.records import Record
from libironic_disk.machine.paths import reported
from libironic_disk.machine.undoing import undone_on_error
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.drives import fat
from libironic_disk.pure.netboot.task import (
    BootFile,
    BootTask,
    Instance,
    IsoInstance,
    NetworkRoot,
    RamdiskInstance,
    boot_files_of,
)

NO_CHANGE: Final = ParameterChange()
_CONFIG_DRIVE_LABEL: Final = "config-2"


class Purpose(StrEnum):
    """What a medium is for; its name begins so."""

    RAMDISK = "ramdisk"
    INSTANCE = "instance"
    CONFIG_DRIVE = "config"


def iso_name(purpose: Purpose, node: str) -> str:
    """Return under which name an ISO is published: always the same, so that clean-up knows it after a crash too."""
    return f"{purpose}-{node}.iso"


def drive_name(node: str, slot: Slot) -> str:
    """Return under which name a config drive is published: controllers tell a stick from a CD by the suffix."""
    return drive_names(node)[0 if slot.kinds.intersection(SECOND) else 1]


def drive_names(node: str) -> tuple[str, str]:
    """Return the names that a config drive may have: as a stick, and as a CD."""
    return f"{Purpose.CONFIG_DRIVE}-{node}.img", f"{Purpose.CONFIG_DRIVE}-{node}.iso"


def names_of(purpose: Purpose, node: str) -> tuple[str, ...]:
    """Return all names that may have been published for the RAM disk or for the instance."""
    more = drive_names(node) if purpose is Purpose.INSTANCE else ()
    return (iso_name(purpose, node), *more)


def spec_of(
    task: BootTask,
    kernel: BootFile,
    ramdisk: BootFile,
    parameters: KernelParameters,
    drive: ConfigDrive | None = None,
) -> BootIsoSpec:
    """Return what an ISO for a machine is built of; the machine's name is its publisher.

    It boots by a BIOS and by UEFI: a controller may have set another firmware than the task says.

    Raises:
        BootIsoRefused, KernelParametersInvalid: it can't be built so.
    """
    spec = BootIsoSpec(
        kernel=Path(kernel),
        ramdisk=Path(ramdisk),
        parameters=parameters,
        publisher_id=task.node,
        architecture=task.architecture,
        signed=task.secure_boot,
    )
    # Systems look for a config drive by its label: an ISO that has its files has to have its name too.
    return spec if drive is None else replace(spec, files=files_of(drive), volume_id=_CONFIG_DRIVE_LABEL)


def files_of(drive: ConfigDrive) -> Mapping[str, bytes]:
    """Return the files of a config drive by path.

    Raises:
        ConfigDriveInvalid: its file system is damaged.
        ConfigDriveTooLarge: they are more than a config drive may have.
    """
    limit = configdrive.DEFAULT_LIMIT
    match drive.kind:
        case VolumeKind.ISO9660:
            return iso_image.read_files(drive.data, limit=limit)
        case VolumeKind.FAT:
            return fat.read_files(drive.data, limit=limit)


def drive_kinds(drive: ConfigDrive) -> tuple[MediaKind, ...]:
    """Return as what a drive can be shown: no kernel mounts a FAT of small sectors from a CD."""
    return SECOND if drive.kind is VolumeKind.FAT else (*SECOND, *BOOTABLE)


def places_for(drive: ConfigDrive, slots: tuple[Slot, ...], first: Slot) -> tuple[Slot, ...]:
    """Return the slots that can hold a drive beside the first medium."""
    return second_slots(slots, first, drive_kinds(drive))


def drive_of(instance: Instance | None) -> ConfigDrive | None:
    """Return the instance's config drive, unwrapped and checked.

    Raises:
        ConfigDriveInvalid, ConfigDriveTooLarge: it isn't one.
    """
    match instance:
        case RamdiskInstance(config_drive=bytes(data)) | IsoInstance(config_drive=bytes(data)):
            return configdrive.load(data)
        case _:
            return None


def parameters_of(instance: NetworkRoot | RamdiskInstance) -> KernelParameters:
    """Return the parameters of a kernel that comes from a medium."""
    return instance.kernel_parameters if isinstance(instance, NetworkRoot) else instance.parameters


def is_changed(instance: IsoInstance) -> bool:
    """Whether anything of a user's ISO is to be another."""
    return instance.parameters != NO_CHANGE or bool(instance.files)


def digest_of(task: BootTask, instance: Instance) -> str:
    """Return what tells an instance's media from others: what it says, and the files that it names as they are now.

    Raises:
        SourceFailed: one of them isn't there.
    """
    digest = hashlib.sha256(repr((task.architecture, task.secure_boot)).encode())
    match instance:
        case RamdiskInstance() | IsoInstance():
            digest.update(instance.config_drive or b"")
            digest.update(repr(replace(instance, config_drive=None)).encode())
        case _:
            digest.update(repr(instance).encode())
    for path in boot_files_of(instance):
        if not isinstance(path, str):
            digest.update(repr(identity_of(Path(path))).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where ISOs are made ready to be published."""

    directory: Path
    isos: OpenIsos

    def built(self, record: Record, purpose: Purpose, node: str, spec: BootIsoSpec) -> PublishedContent:
        """Build an ISO; its room is promised before, and is its true size afterwards.

        Raises:
            NotEnoughRoom: it would be more than all machines may have.
            DiskError: as :func:`~libironic_disk.machine.isos.building.build`, and PathFailed where the directory can't
                be written to. Nothing is left of it.
        """
        record.take_room(purpose, building.estimated_size(spec))
        place, unfinished = self._place(purpose, node), self._unfinished(purpose, node)
        with reported(unfinished):
            _remove(unfinished)
            unfinished.mkdir(mode=0o700)
        with undone_on_error(lambda: _remove(unfinished), f"{unfinished} is left"):
            building.build(spec, unfinished / place.name)
            with reported(place):
                (unfinished / place.name).replace(place)
        with reported(place):
            _remove(unfinished)
            size = place.stat().st_size
        record.take_room(purpose, size)
        return place

    def kept(self, purpose: Purpose, node: str) -> Path | None:
        """Return an ISO that was built before, if it is still there."""
        place = self._place(purpose, node)
        return place if place.is_file() else None

    def patched(
        self, purpose: Purpose, node: str, iso: Path, parameters: ParameterChange, files: Mapping[str, bytes]
    ) -> PublishedContent:
        """Return somebody's ISO with changes, which takes no room, or the very file if there are none.

        Raises:
            DiskError: it can't be opened, or not be changed so.
        """
        if parameters == NO_CHANGE and not files:
            return iso
        return self.isos.hold(iso_name(purpose, node), iso).patch(parameters=parameters, files=files)

    def forget(self, record: Record, purpose: Purpose, node: str) -> None:
        """Remove what was built and what a crash left of building, close what was opened, and give back its room."""
        self.isos.release(iso_name(purpose, node))
        place = self._place(purpose, node)
        with reported(place):
            place.unlink(missing_ok=True)
            _remove(self._unfinished(purpose, node))
        record.give_back(purpose)

    def _place(self, purpose: Purpose, node: str) -> Path:
        return self.directory / iso_name(purpose, node)

    def _unfinished(self, purpose: Purpose, node: str) -> Path:
        """Return the directory of what is being built: a process that is killed leaves all of it in there."""
        return self.directory / f".building-{iso_name(purpose, node)}"


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
