"""Booting by virtual media: an ISO that the machine's own controller shows it as a CD.

Nothing has to be known of the machine's network, and no DHCP or TFTP server is there. The ISO is built of a kernel and
a RAM disk, or is somebody's own with parameters put in; a config drive is a second medium beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.boot import mediacontents
from libironic_disk.boot.inserting import Patience, eject_all, holds, insert_first, require_out
from libironic_disk.boot.interface import BootInterface
from libironic_disk.boot.media import BOOTABLE, Slot, VirtualMedia, of_kinds
from libironic_disk.boot.mediacontents import Purpose, Workshop, iso_name
from libironic_disk.boot.mediatasks import check_all, check_instance, check_ramdisk
from libironic_disk.boot.openisos import OpenIsos
from libironic_disk.boot.publishing import Publisher
from libironic_disk.boot.readables import PublishedContent
from libironic_disk.configdrive import ConfigDrive
from libironic_disk.errors import DiskError, InvalidParameterValue, VirtualMediaFailed, add_aftermath
from libironic_disk.machine.media.records import Record, Records
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import (
    BootTask,
    Instance,
    IsoInstance,
    LocalDisk,
    NetworkRoot,
    Ramdisk,
    RamdiskInstance,
    WholeDisk,
)

_PROPERTIES: Final = {
    "node": "names the machine, to the client of its controller and in the names of what is published",
    "architecture": "of the kernel that an ISO is built of",
    "firmware": "what the controller is told to start: a BIOS or UEFI",
    "secure_boot": "whether an ISO that is built starts by the distribution's signed loaders",
    "ramdisk": "the kernel and the RAM disk, as files; without them the interface's own ISO",
    "instance": "the local disk, a root with its kernel, a RAM disk or an ISO; the last two may have a config drive",
}


class VirtualMediaBoot(BootInterface):
    """Boots machines from ISOs in the virtual drives of their controllers.

    Args:
        publisher: makes the ISOs available to the controllers.
        media: the client of the controllers.
        directory: for ISOs that are built, and for what a crash must not forget. It exists, and is of no other use.
        limit: bytes that all ISOs that are built may have together. None is as much as there is.
        deploy_iso: booted as the RAM disk with the parameters put in, in place of an ISO that is built.
        patience: how long a controller may take.
    """

    def __init__(
        self,
        publisher: Publisher,
        media: VirtualMedia,
        directory: Path,
        *,
        limit: int | None = None,
        deploy_iso: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._publisher = publisher
        self._media = media
        self._records = Records(directory, limit)
        self._workshop = Workshop(directory=directory, isos=OpenIsos())
        self._deploy_iso = deploy_iso
        self._patience = patience or Patience()

    def get_properties(self) -> Mapping[str, str]:
        """Return what a task has for this interface."""
        return dict(_PROPERTIES)

    def validate(self, task: BootTask) -> None:
        """Check the task and its files. The controller isn't asked, so a slot may still be missing.

        Raises:
            MissingParameterValue, InvalidParameterValue: as the base class says.
        """
        check_all(task, self._deploy_iso)

    def prepare_ramdisk(self, task: BootTask, ramdisk_params: Mapping[str, str | None]) -> Prepared:
        """Turn the machine off, put in the ISO of the RAM disk, and have it booted at the next start.

        ``boot_method=vmedia`` is among its parameters, and if the ISO was built ``ir_pub_id``, by which the RAM disk
        finds it.

        Raises:
            MissingParameterValue, InvalidParameterValue, BootTaskBusy: as the base class says.
            NotEnoughRoom: the ISO would be more than there is room for.
            VirtualMediaFailed: the controller didn't do its part.
            DiskError: the ISO couldn't be made. After any error nothing is left in the slots or published.
        """
        source, parameters = check_ramdisk(task, self._deploy_iso, ramdisk_params)
        with self._records.claimed(task.node) as record, self._undone(task, record, Purpose.RAMDISK):
            slots = self._media.slots(task.node)
            self._require_slots(task.node, slots)
            name = iso_name(Purpose.RAMDISK, task.node)
            url = self._publisher.publish(name, self._ramdisk_iso(task, record, source, parameters))
            record.set_content("")
            self._media.power_off(task.node)
            self._put_in(task, slots, url, None)
            self._set_device(task, BootDevice.CDROM, persistent=False)
        return Prepared(device=BootDevice.CDROM, persistent=False, files=(name,), url=url)

    def clean_up_ramdisk(self, task: BootTask) -> None:
        """Take the ISO of the RAM disk out, withdraw it, and give back its room.

        Raises:
            BootTaskBusy: as the base class says.
            VirtualMediaFailed: it didn't come out. It is withdrawn all the same.
        """
        with self._records.claimed(task.node) as record:
            self._take_back(task, record, Purpose.RAMDISK)

    def prepare_instance(self, task: BootTask) -> Prepared:
        """Have the machine boot its instance: all media out and its disk first, or the media of the instance in.

        Media that are in already are left there, and the machine is left on: a controller that has taken a machine over
        only makes them available again. Else the machine is turned off first. What is for one boot only was booted by
        then, and is not made available again.

        Raises:
            MissingParameterValue, BootTaskBusy: as the base class says.
            InvalidParameterValue: that too, or there is no slot for the config drive beside a user's ISO.
            NotEnoughRoom, VirtualMediaFailed, DiskError: as :meth:`prepare_ramdisk`.
        """
        instance = check_instance(task)
        with self._records.claimed(task.node) as record:
            if isinstance(instance, LocalDisk | WholeDisk):
                self._take_back(task, record, Purpose.INSTANCE)
                eject_all(self._media, task.node, self._media.slots(task.node))
                self._set_device(task, BootDevice.DISK, persistent=True)
                return Prepared(device=BootDevice.DISK, persistent=True)
            digest = mediacontents.digest_of(task, instance)
            if record.content == digest and _is_one_shot(instance):
                return Prepared(device=BootDevice.CDROM, persistent=False)
            with self._undone(task, record, Purpose.INSTANCE, digest):
                return self._with_media(task, record, instance, digest)

    def clean_up_instance(self, task: BootTask) -> None:
        """Take the instance's ISO and config drive out, withdraw them, and give back their room.

        Raises:
            BootTaskBusy: as the base class says.
            VirtualMediaFailed: something didn't come out. All is withdrawn all the same.
        """
        with self._records.claimed(task.node) as record:
            self._take_back(task, record, Purpose.INSTANCE)

    def _with_media(
        self, task: BootTask, record: Record, instance: NetworkRoot | RamdiskInstance | IsoInstance, digest: str
    ) -> Prepared:
        slots = self._media.slots(task.node)
        firsts = self._require_slots(task.node, slots)
        drive = mediacontents.drive_of(instance)
        inside = drive if drive and not any(mediacontents.places_for(drive, slots, first) for first in firsts) else None
        if inside is not None:
            drive = None
        url = self._published(task, record, instance, inside, is_in=record.content == digest)
        if record.content == digest and (found := self._still_in(task.node, slots, url, drive)) is not None:
            names = found
        else:
            record.set_content("")
            self._media.power_off(task.node)
            names = self._put_in(task, slots, url, drive)
        persistent = not _is_one_shot(instance)
        self._set_device(task, BootDevice.CDROM, persistent=persistent)
        record.set_content(digest)
        return Prepared(device=BootDevice.CDROM, persistent=persistent, files=self._files(task, url, names), url=url)

    def _published(
        self,
        task: BootTask,
        record: Record,
        instance: NetworkRoot | RamdiskInstance | IsoInstance,
        inside: ConfigDrive | None,
        *,
        is_in: bool,
    ) -> str:
        """Publish the instance's ISO, which may have a config drive in itself, and return its URL.

        One that a machine has in already isn't built again.
        """
        content: PublishedContent
        if isinstance(instance, IsoInstance):
            if inside is not None:
                problem = (
                    "the controller has no slot for the config drive beside the ISO, which isn't ours to put it in"
                )
                raise InvalidParameterValue(problems=(problem,))
            if isinstance(instance.iso, str):
                return instance.iso
            content = self._workshop.patched(
                Purpose.INSTANCE, task.node, Path(instance.iso), instance.parameters, instance.files
            )
        else:
            parameters = mediacontents.parameters_of(instance)
            spec = mediacontents.spec_of(task, instance.kernel, instance.ramdisk, parameters, inside)
            kept = self._workshop.kept(Purpose.INSTANCE, task.node) if is_in else None
            content = kept or self._workshop.built(record, Purpose.INSTANCE, task.node, spec)
        return self._publisher.publish(iso_name(Purpose.INSTANCE, task.node), content)

    def _ramdisk_iso(
        self, task: BootTask, record: Record, source: Path | Ramdisk, parameters: KernelParameters
    ) -> PublishedContent:
        if isinstance(source, Path):
            change = ParameterChange(append=parameters)
            return self._workshop.patched(Purpose.RAMDISK, task.node, source, change, {})
        spec = mediacontents.spec_of(task, source.kernel, source.ramdisk, parameters)
        return self._workshop.built(record, Purpose.RAMDISK, task.node, spec)

    def _require_slots(self, node: str, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        found = of_kinds(slots, BOOTABLE)
        if not found:
            reason = "none of its slots takes a CD or DVD"
            raise VirtualMediaFailed(node=node, operation="find a slot for an ISO", reason=reason)
        return found

    def _put_in(self, task: BootTask, slots: tuple[Slot, ...], url: str, drive: ConfigDrive | None) -> tuple[str, ...]:
        """Empty all slots and put the media in; return the names that the drive was published under."""
        eject_all(self._media, task.node, slots)
        first = insert_first(self._media, task.node, of_kinds(slots, BOOTABLE), url, self._patience)
        if drive is None:
            return ()
        refused: DiskError | None = None
        for slot in mediacontents.places_for(drive, slots, first):
            name = mediacontents.drive_name(task.node, slot)
            second = self._publisher.publish(name, drive.data)
            try:
                insert_first(self._media, task.node, (slot,), second, self._patience)
            except VirtualMediaFailed as error:
                refused = error
                self._publisher.withdraw(name)
            else:
                return (name,)
        raise refused or VirtualMediaFailed(
            node=task.node, operation="insert a config drive", reason="no slot is left beside that of the ISO"
        )

    def _still_in(
        self, node: str, slots: tuple[Slot, ...], url: str, drive: ConfigDrive | None
    ) -> tuple[str, ...] | None:
        """Publish the config drive again if both media are where they were put; return its names, or None if not."""
        firsts = [slot for slot in of_kinds(slots, BOOTABLE) if slot.url and holds(slot, url)]
        if not firsts:
            return None
        if drive is None:
            return ()
        for slot in mediacontents.places_for(drive, slots, firsts[0]):
            name = mediacontents.drive_name(node, slot)
            if slot.url and holds(slot, f"/{name}"):
                self._publisher.publish(name, drive.data)
                return (name,)
        return None

    def _files(self, task: BootTask, url: str, names: tuple[str, ...]) -> tuple[str, ...]:
        instance = task.instance
        is_theirs = isinstance(instance, IsoInstance) and instance.iso == url
        return names if is_theirs else (iso_name(Purpose.INSTANCE, task.node), *names)

    def _set_device(self, task: BootTask, device: BootDevice, *, persistent: bool) -> None:
        self._media.set_boot_device(task.node, device, persistent=persistent, firmware=task.firmware)

    @contextmanager
    def _undone(self, task: BootTask, record: Record, purpose: Purpose, whole: str | None = None) -> Iterator[None]:
        """Take everything back if the block fails; what fails then is added to the error and never replaces it.

        Media that were in before the block, and still are, are not taken from a machine that may run from them.
        """
        try:
            yield
        except BaseException as first:
            if record.content == whole:
                raise
            try:
                self._take_back(task, record, purpose)
            except (DiskError, OSError) as error:
                add_aftermath(first, f"taking it back failed too: {error}")
            raise

    def _take_back(self, task: BootTask, record: Record, purpose: Purpose) -> None:
        """Eject, withdraw and forget; each is done whether or not the one before worked."""
        back = _TakingBack()
        names = mediacontents.names_of(purpose, task.node)
        with back.step():
            self._eject_ours(task, record, names, purpose)
        for name in names:
            with back.step():
                self._publisher.withdraw(name)
        with back.step():
            self._workshop.forget(record, purpose, task.node)
        if purpose is Purpose.INSTANCE:
            with back.step():
                record.set_content("")
        back.finish()

    def _eject_ours(self, task: BootTask, record: Record, names: tuple[str, ...], purpose: Purpose) -> None:
        """Eject what has one of these names, and the URL that a user's ISO has by itself; others are left."""
        urls = [f"/{name}" for name in names]
        if purpose is Purpose.INSTANCE:
            urls += _own_urls(task.instance)
        found = self._media.slots(task.node)
        ours = [slot for slot in found if slot.url and any(holds(slot, url) for url in urls)]
        # Who doesn't say what is inserted may mean ours, unless that of an instance came after it.
        is_last = purpose is Purpose.INSTANCE or not record.content
        unnamed = [slot for slot in found if slot.inserted and not slot.url and is_last]
        eject_all(self._media, task.node, [*ours, *unnamed])
        if ours:
            require_out(self._media, task.node, ours)


def _is_one_shot(instance: Instance) -> bool:
    return isinstance(instance, IsoInstance) and instance.one_shot


def _own_urls(instance: Instance | None) -> list[str]:
    return [instance.iso] if isinstance(instance, IsoInstance) and isinstance(instance.iso, str) else []


@dataclass(slots=True)
class _TakingBack:
    """Steps of which each is tried: the first error is raised at the end, and has the others in its aftermath."""

    first: DiskError | OSError | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        try:
            yield
        except (DiskError, OSError) as error:
            if self.first is None:
                self.first = error
            else:
                add_aftermath(self.first, str(error))

    def finish(self) -> None:
        if self.first is not None:
            raise self.first
