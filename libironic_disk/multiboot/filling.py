"""Images become systems: written, given their fstab, and found again by the GRUB that starts all of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from libironic_disk import filesystems, grub, partitionimages, treeimages
from libironic_disk.errors import BootImpossible
from libironic_disk.events import Cancellation, EventSink, Phase, phase
from libironic_disk.machine.boot import grub_reading, image_entries, multiboot_directory, osprober, reidentifying
from libironic_disk.machine.boot.osprober import OsProberReport
from libironic_disk.machine.disks import lookup, sysfs
from libironic_disk.machine.disks.staging import StagedDisk
from libironic_disk.machine.trees import imagesetup
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.multiboot.planning import MultibootPlan, MultibootRequest, partition_of, size_of, uuid_of
from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, Place
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot.arranging import Placed
from libironic_disk.pure.multiboot.description import Image
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import Extent
from libironic_disk.pure.volumes.planning import StoragePlan
from libironic_disk.request import FirmwareEntry
from libironic_disk.volumes import StagedStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An image on its volume; ``changed`` leads from UUIDs that it brought to those that it has now."""

    record: ImageRecord
    changed: Mapping[str, str] = field(default_factory=dict)


def node_of(staged: StagedStorage, placed: Placed) -> str:
    """Return the device of a volume."""
    if placed.disk is None:
        return staged.nodes[placed.partition]
    return staged.disks[placed.disk].nodes[partition_of(staged.plan, placed).number]


def multiboot_uuid(disk: StagedDisk) -> str:
    """Return the UUID of the file system that GRUB is on."""
    part = disk.plan.partition(Role.MULTIBOOT)
    return part.filesystem_uuid if part else ""


def write_images(
    wanted: MultibootPlan, nodes: Mapping[Placed, str], sink: EventSink, cancel: Cancellation
) -> tuple[Written, ...]:
    """Write every image; where another file system of the machine has its UUID, an image's gets another.

    Raises:
        BootImpossible: an image's file system is none that GRUB reads.
        DiskError: what writing an image raises.
    """
    places: dict[Placed, Place] = {}
    changed: dict[str, dict[str, str]] = {}
    elsewhere = _elsewhere(wanted, nodes)
    for image in wanted.request.description.images:
        placed = wanted.arrangement.root_of(image.name)
        if image.name not in wanted.images:
            places[placed] = _kept(wanted, image, placed, nodes[placed])
            continue
        if image.name in wanted.trees:
            places[placed] = _unpack(wanted, image, nodes, sink, cancel)
            continue
        with phase(sink, Phase.IMAGE, image.name):
            _, found = partitionimages.write(
                wanted.images[image.name],
                nodes[placed],
                capacity=size_of(wanted.storage, placed),
                sink=sink,
                cancel=cancel,
                verify=wanted.request.verify,
            )
        if found.kind not in grub.ROOT_FILE_SYSTEMS:
            reason = f"the image {image.name} holds {found.kind}, and GRUB can't start from it"
            raise BootImpossible(device=nodes[placed], reason=reason)
        place = _place(wanted.storage, placed, FileSystem(found.kind), found.uuid)
        if place.uuid in elsewhere | {each.uuid for each in places.values()}:
            uuid = _another_uuid(wanted.request, image)
            reidentifying.new_uuid(nodes[placed], place.filesystem, uuid, cancel=cancel)
            changed[image.name] = {place.uuid: uuid}
            place = replace(place, uuid=uuid)
        subvolume = image_entries.subvolume_of(nodes[placed], place.filesystem)
        places[placed] = replace(place, subvolume=subvolume)
    return tuple(
        Written(record=_record(wanted, image, places), changed=changed.get(image.name, {}))
        for image in wanted.request.description.images
    )


def _elsewhere(wanted: MultibootPlan, nodes: Mapping[Placed, str]) -> frozenset[str]:
    """Return the UUIDs that other disks of the machine have: firmware may show these to GRUB first.

    Of a disk that is here only to be prepared for another machine nothing is known of that machine's others.
    """
    devices = [disk.device for disk in wanted.storage.disks]
    if any(disk.kind is DiskKind.PLAIN_FILE for disk in wanted.storage.disks) or any(map(sysfs.is_lent, devices)):
        return frozenset()
    return lookup.file_systems_elsewhere([*devices, *nodes.values()])


def _kept(wanted: MultibootPlan, image: Image, placed: Placed, node: str) -> Place:
    """Return where an image is that stays as it is."""
    found = filesystems.read(node)
    if found is None or found.kind not in grub.ROOT_FILE_SYSTEMS:
        reason = f"the image {image.name} is to be kept there, and {found.kind if found else 'nothing'} was found"
        raise BootImpossible(device=node, reason=reason)
    return _place(wanted.storage, placed, FileSystem(found.kind), found.uuid)


def _unpack(
    wanted: MultibootPlan, image: Image, nodes: Mapping[Placed, str], sink: EventSink, cancel: Cancellation
) -> Place:
    """Unpack an archive onto the volumes of its image that have file systems."""
    volumes = {
        placed.volume.mount: (nodes[placed], placed.volume.filesystem)
        for placed in wanted.arrangement.of(image.name)
        if placed.volume.mount is not None and placed.volume.mount.startswith("/") and placed.volume.filesystem
    }
    with phase(sink, Phase.IMAGE, image.name):
        treeimages.unpack(wanted.images[image.name], volumes, sink=sink, cancel=cancel)
    root = wanted.arrangement.root_of(image.name)
    assert root.volume.filesystem is not None  # noqa: S101 # planning refused it
    return _place(wanted.storage, root, root.volume.filesystem, uuid_of(wanted.storage, root))


def _another_uuid(request: MultibootRequest, image: Image) -> str:
    return str(ids.guid(request.seed or secrets.token_bytes(32), f"image/{image.name}"))


def _place(storage: StoragePlan, placed: Placed, filesystem: FileSystem, uuid: str) -> Place:
    if placed.disk is None:
        return Place(filesystem=filesystem, uuid=uuid, volume=storage.grub_name(placed.partition))
    return Place(filesystem=filesystem, uuid=uuid, partuuid=partition_of(storage, placed).uuid)


def _record(wanted: MultibootPlan, image: Image, places: Mapping[Placed, Place]) -> ImageRecord:
    return ImageRecord(
        name=image.name,
        image_name=image.image_name or image.name,
        image_uuid=image.image_uuid,
        root=places[wanted.arrangement.root_of(image.name)],
        boot=_boot_place(wanted, image.name),
        parameters=wanted.request.description.kernel_parameters,
    )


def _boot_volume(wanted: MultibootPlan, image: str) -> Placed | None:
    """Return the volume that an image has its kernels on, where that isn't its root."""
    return next((placed for placed in wanted.arrangement.of(image) if placed.volume.mount == "/boot"), None)


def _boot_place(wanted: MultibootPlan, image: str) -> Place | None:
    placed = _boot_volume(wanted, image)
    if placed is None or placed.volume.filesystem is None:
        return None
    return _place(wanted.storage, placed, placed.volume.filesystem, uuid_of(wanted.storage, placed))


def set_up(wanted: MultibootPlan, nodes: Mapping[Placed, str], written: Sequence[Written]) -> Iterator[str]:
    """Write the fstab of every image, and yield the lines that are gone from it, each after the image's name.

    Raises:
        PathFailed: a file can't be written.
        DeviceFailed: a file system can't be mounted.
    """
    roots = {wanted.arrangement.root_of(each.record.name): each.record.root for each in written}
    made = {placed: uuid_of(wanted.storage, placed) for placed in wanted.arrangement.placed}
    known = frozenset({*made.values(), *(root.uuid for root in roots.values())} - {""})
    for each in written:
        record = each.record
        if record.name not in wanted.images:
            continue
        lines = fstab.lines_for(tuple(_mounted(wanted, record.name, roots, made)))
        node = nodes[wanted.arrangement.root_of(record.name)]
        options = image_entries.mount_options(record.root)
        with mounted(node, record.root.filesystem, read_only=False, options=options) as descriptor:
            tree = RootDir(descriptor, tree=node)
            imagesetup.replace_uuids(tree, each.changed)
            dropped = imagesetup.write_fstab(tree, lines, merge=wanted.request.merge_fstab, known=known)
        yield from (f"{record.name}: {line}" for line in dropped)


def _mounted(
    wanted: MultibootPlan, image: str, roots: Mapping[Placed, Place], made: Mapping[Placed, str]
) -> Iterator[fstab.Mounted]:
    for placed in wanted.arrangement.of(image):
        volume, root = placed.volume, roots.get(placed)
        filesystem = root.filesystem if root else volume.filesystem
        if volume.mount is not None and filesystem is not None:
            subvolume = f",subvol={root.subvolume}" if root and root.subvolume else ""
            yield fstab.Mounted(
                uuid=root.uuid if root else made[placed],
                mount=volume.mount,
                filesystem=filesystem,
                options=volume.fstab_options + subvolume,
                enabled=volume.fstab_enabled,
            )


def menu_of(
    wanted: MultibootPlan,
    nodes: Mapping[Placed, str],
    multiboot_uuid: str,
    written: Sequence[Written],
    cancel: Cancellation,
) -> tuple[MenuRecord, tuple[str, ...]]:
    """Read what every image can start, and return the menu, and what people should know about it.

    Raises:
        BootImpossible: the image that is to boot by default has no kernel, or GRUB can't read one's.
        DeviceFailed, PathFailed: an image can't be read.
        ProgramError, ToolMissing: nobody can say whether GRUB reads its kernel.
    """
    by_uuid = {each.record.root.uuid: nodes[wanted.arrangement.root_of(each.record.name)] for each in written}
    for record in (one.record for one in written):
        placed = _boot_volume(wanted, record.name)
        if placed is not None and record.boot is not None:
            by_uuid[record.boot.uuid] = nodes[placed]
    found = [image_entries.read(each.record, by_uuid) for each in written]
    for each in found:
        for entry in each.entries[:1]:
            image_entries.check_readable(each.image, entry, by_uuid, cancel)
    default = wanted.request.description.default
    first = {each.image.name: each.entries[0].entry.id for each in found if each.entries}
    if default not in first:
        reason = next(each.reason for each in found if each.image.name == default)
        raise BootImpossible(device=wanted.storage.disks[0].device, reason=f"{default} is to boot, and {reason}")
    menu = MenuRecord(
        multiboot_uuid=multiboot_uuid,
        images=tuple(each.image for each in found),
        entries=tuple(entry for each in found for entry in each.entries),
        default=first[default],
        timeout=wanted.request.menu_timeout,
        left_out=tuple(f"{each.image.name}: {each.reason}" for each in found if each.reason),
    )
    notes = [note for each in found for note in each.notes]
    if wanted.request.os_prober:
        roots = {by_uuid[image.root.uuid]: image.root for image in menu.images}
        notes += _compared(menu, by_uuid, osprober.probe(roots, cancel=cancel))
    return menu, tuple(notes)


def _compared(record: MenuRecord, by_uuid: Mapping[str, str], report: OsProberReport) -> Iterator[str]:
    """Say where os-prober and our own reading differ."""
    yield from report.problems
    seen = {found.node for found in report.found}
    for image in record.images:
        node = by_uuid[image.root.uuid]
        if node in report.unseen:
            continue
        ours = bool(record.entries_of(image.name))
        theirs = node in seen
        if ours and not theirs:
            yield f"os-prober finds no system in {image.name}, whose kernels were found without it"
        if theirs and not ours:
            yield f"os-prober finds a system in {image.name}, which has no kernel that could be started"


def tell_firmware(wanted: MultibootPlan) -> tuple[str, ...]:
    """Tell this machine's firmware of the first disk, where that is wished; return what people should know."""
    if wanted.request.firmware_entry is FirmwareEntry.NEVER:
        return ()
    disk = wanted.storage.disks[0]
    return tuple(warning for boot in wanted.boots for warning in grub.tell_firmware(boot, disk))


def install(wanted: MultibootPlan, disk: StagedDisk, record: MenuRecord, cancel: Cancellation) -> tuple[Extent, ...]:
    """Put GRUB and its menu onto the multiboot partition; return what belongs into the first MiB of the disk.

    Raises:
        BootImpossible: GRUB can't read what it needs, or has no room.
        DiskError: something can't be written.
    """
    node = disk.node_of(Role.MULTIBOOT)
    with multiboot_directory.opened(node, read_only=False) as tree:
        platforms = [plan.platform for plan in wanted.boots]
        multiboot_directory.prepare(tree, platforms, record, serial=wanted.request.serial)
        seen = grub_reading.checksums(tree, multiboot_directory.NEEDED)
    grub_reading.check(node, multiboot_directory.FILESYSTEM, seen, cancel=cancel)
    bios_boot, esp = disk.plan.partition(Role.BIOS_BOOT), disk.plan.partition(Role.ESP)
    heads = [
        grub.install_loader(
            plan,
            uuid=record.multiboot_uuid,
            bios_boot_node=disk.nodes[bios_boot.number] if bios_boot else None,
            esp_node=disk.nodes[esp.number] if esp else None,
        )
        for plan in wanted.boots
    ]
    return tuple(extent for head in heads for extent in head)
