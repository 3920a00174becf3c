"""What is to become of a machine with several systems, decided before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from libironic_disk import grub, images, partitionimages, treeimages, volumes
from libironic_disk.errors import DescriptionInvalid, DiskState, PreservationRefused, leaving
from libironic_disk.events import Cancellation
from libironic_disk.grub import BootPlan, SerialConsole
from libironic_disk.images import IMAGE_POLICY, InspectedImage
from libironic_disk.machine import process
from libironic_disk.machine.boot import reidentifying
from libironic_disk.machine.disks import lookup
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.pure.disks import matching
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Existing, Plan, PlannedPartition
from libironic_disk.pure.multiboot import checking
from libironic_disk.pure.multiboot.arranging import Arrangement, Placed, arrange
from libironic_disk.pure.multiboot.description import MultiImage, PartitionsPolicy, Volume
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.volumes.planning import PlannedVolume, StoragePlan
from libironic_disk.pure.words import settle
from libironic_disk.request import FirmwareEntry

BOTH: Final = frozenset({Firmware.BIOS, Firmware.UEFI})


@dataclass(frozen=True, slots=True, kw_only=True)
class MultibootRequest:
    """What is to be on the disks.

    Attributes:
        description: the images, their volumes and disks.
        devices: the nodes of the disks, in the description's order; empty to find them by what it says.
        file_sector_size: says that the devices are plain files, to be disks with sectors of so many bytes.
        firmwares: what is to start the machine. A disk with 512-byte sectors can serve both.
        architecture: of the machine.
        firmware_entry: whether this machine's firmware is told.
        seed: makes every identity follow from it.
        merge_fstab: keep what an image's own fstab says beside its volumes.
        signed: take the signed shim and GRUB of this machine's packages where the firmware is UEFI, for Secure Boot.
        os_prober: compare what is found with os-prober's findings.
        menu_timeout: seconds for which GRUB waits.
        serial: a serial port for GRUB's menu.
        image_policy: how patient to be with the images' servers.
        verify: read each image back from the disk before the disk may boot.
    """

    description: MultiImage
    devices: tuple[str, ...] = ()
    file_sector_size: int | None = None
    firmwares: frozenset[Firmware] = BOTH
    architecture: Architecture = Architecture.X86_64
    firmware_entry: FirmwareEntry = FirmwareEntry.AUTO
    seed: bytes | None = None
    merge_fstab: bool = True
    signed: bool = False
    os_prober: bool = True
    menu_timeout: int = 5
    serial: SerialConsole | None = None
    image_policy: HttpPolicy = IMAGE_POLICY
    verify: bool = False

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultibootPlan:
    """Everything that was decided; printing it shows it.

    ``images`` are those that are written, ``trees`` names the ones among them that are archives of files; ``boots`` has
    a plan for each kind of firmware.
    """

    request: MultibootRequest
    arrangement: Arrangement
    storage: StoragePlan
    images: Mapping[str, InspectedImage]
    trees: frozenset[str]
    boots: tuple[BootPlan, ...]

    def __str__(self) -> str:
        """Return the plan for people."""
        described = self.request.description
        lines = [volumes.as_text(self.storage)]
        for image in described.images:
            where = self.arrangement.root_of(image.name).partition
            if image.name not in self.images:
                lines.append(f"{where} keeps the image {image.name}")
                continue
            default = ", the default" if image.name == described.default else ""
            kind = "files of the archive" if image.name in self.trees else f"{self.images[image.name].format} image"
            lines.append(f"{where} gets the {kind} {image.name}{default}")
        return "\n".join((*lines, *map(str, self.boots), *described.notes))


@leaving(DiskState.UNCHANGED)
def plan(request: MultibootRequest, *, cancel: Cancellation | None = None) -> MultibootPlan:
    """Decide everything, and refuse what can't be done; the disks are opened read-only.

    Raises:
        RequestError: the request can't be carried out; the classes below it say why.
        DeviceError: a disk isn't one, can't be read, or is in use.
        SourceFailed, ImageDamaged: an image can't be read.
        ProgramError: a program that looks at disks or images failed.
        Cancelled: the caller wished so.
    """
    described = request.description
    if found := tuple(checking.problems(described)):
        raise DescriptionInvalid(problems=found)
    writes = _writes(described)
    inspected = {
        image.name: images.inspect(
            image.pull_url, checksum=image.image_checksum or None, policy=request.image_policy, cancel=cancel
        )
        for image in described.images
        if image.name in writes
    }
    trees = frozenset(name for name, image in inspected.items() if treeimages.is_tree(image, cancel=cancel))
    _check_file_systems(described, trees, writes)
    arrangement = arrange(
        described,
        firmwares=request.firmwares,
        architecture=request.architecture,
        seed=request.seed,
        trees=trees,
    )
    devices = request.devices or tuple(lookup.find(disk.id_kind, disk.id_value) for disk in described.disks)
    facts = volumes.observe(devices, file_sector_size=request.file_sector_size)
    kept = described.policy is PartitionsPolicy.VERIFY
    existing = Existing.MATCH if kept else Existing.REPLACE
    storage = volumes.plan(arrangement.storage, facts, existing=existing, take_apart=True)
    if kept:
        _check_as_described(storage)
    for name, image in inspected.items():
        for device in devices:
            images.check_apart(image, device)
        if name not in trees:
            _check_image(name, image, arrangement.root_of(name), storage, cancel)
    boots = tuple(_plan_boot(request, storage.disks[0], firmware) for firmware in sorted(request.firmwares))
    process.require(tool for image in inspected.values() for tool in images.required_tools(image))
    return MultibootPlan(
        request=request, arrangement=arrangement, storage=storage, images=inspected, trees=trees, boots=boots
    )


def _check_image(
    name: str, image: InspectedImage, placed: Placed, storage: StoragePlan, cancel: Cancellation | None
) -> None:
    kind = partitionimages.check(
        image,
        target=f"the volume {placed.partition} of {name}",
        capacity=size_of(storage, placed),
        boots=False,
        device=storage.disks[placed.disk or 0].device,
        cancel=cancel,
    )
    if kind in grub.ROOT_FILE_SYSTEMS:
        # Another file system with its UUID may turn up.
        process.require(reidentifying.required_tools([FileSystem(kind)]))


def _writes(described: MultiImage) -> frozenset[str]:
    """Return the images that are written: all on new disks, else those whose root keeps nothing."""
    if described.policy is PartitionsPolicy.CLEAN:
        return frozenset(image.name for image in described.images)
    roots = {image.name: described.root_of(image.name) for image in described.images}
    return frozenset(name for name, root in roots.items() if not root.keep_data)


def _check_as_described(storage: StoragePlan) -> None:
    """Refuse disks that would have to be made anew.

    Raises:
        PreservationRefused: says for each what is to be different.
    """
    for disk in storage.disks:
        if not disk.is_empty:
            differences = matching.table_differences(disk.table, disk.partitions, disk.replaces)
            other = ("its identities, or the file systems, arrays or groups on it, are others",)
            raise PreservationRefused(device=disk.device, differences=differences or other)


def _check_file_systems(described: MultiImage, trees: frozenset[str], writes: frozenset[str]) -> None:
    """Refuse what GRUB couldn't start from, which shows only when it is known what the images are."""
    problems = []
    for name in sorted(trees):
        problems += _unreadable(described.root_of(name), f"{name!r} is an archive of files")
    for image in described.images:
        for volume in described.volumes_of(image.name):
            if volume.mount != "/boot":
                continue
            who = f"volume {volume.name!r}"
            if image.name in writes - trees:
                problems.append(f"{who}: at '/boot' it would hide the kernels, which are in the image: leave it out")
            if len(volume.images) > 1:
                problems.append(f"{who}: '/boot' belongs to one image, or each would boot the other's kernels")
            problems += _unreadable(volume, "GRUB reads kernels from it")
    if problems:
        raise DescriptionInvalid(problems=tuple(problems))


def _unreadable(volume: Volume, why: str) -> list[str]:
    if volume.filesystem in grub.ROOT_FILE_SYSTEMS:
        return []
    kinds = ", ".join(sorted(grub.ROOT_FILE_SYSTEMS))
    said = f"{volume.filesystem} is made on it" if volume.filesystem else "nothing says which file system is made"
    return [f"volume {volume.name!r}: {why}, and {said}; say one of {kinds}"]


def _plan_boot(request: MultibootRequest, disk: Plan, firmware: Firmware) -> BootPlan:
    bios_boot = disk.partition(Role.BIOS_BOOT)
    return grub.plan_boot(
        device=disk.device,
        firmware=firmware,
        architecture=request.architecture,
        table=disk.table,
        sector_size=disk.topology.sector_size,
        first_partition_start=min(part.start for part in disk.partitions),
        bios_boot=bios_boot.span if bios_boot else None,
        has_esp=disk.partition(Role.ESP) is not None,
        kernel_parameters=request.description.kernel_parameters,
        timeout=request.menu_timeout,
        serial=request.serial,
        signed=request.signed,
    )


def partition_of(storage: StoragePlan, placed: Placed) -> PlannedPartition:
    """Return the partition that a volume is to be.

    Raises:
        KeyError: it is a logical volume.
    """
    if placed.disk is None:
        raise KeyError(placed.partition)
    return next(part for part in storage.disks[placed.disk].partitions if part.name == placed.partition)


def size_of(storage: StoragePlan, placed: Placed) -> int:
    """Return how many bytes a volume will have."""
    return _volume(storage, placed).size if placed.disk is None else partition_of(storage, placed).size


def uuid_of(storage: StoragePlan, placed: Placed) -> str:
    """Return the UUID of the file system that is made on a volume; empty where an image brings its own."""
    if placed.disk is None:
        return _volume(storage, placed).contents.filesystem_uuid
    return partition_of(storage, placed).filesystem_uuid


def _volume(storage: StoragePlan, placed: Placed) -> PlannedVolume:
    every = {f"{group.name}/{each.name}": each for group in storage.groups for each in group.volumes}
    return every[placed.partition]
