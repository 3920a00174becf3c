"""An image on a disk that boots: everything planned, then applied in order.

:func:`plan` looks at the disk, the image and the config drive, and refuses whatever can be refused before the first
write. :func:`apply` does what was planned, the table and the boot code last. :func:`deploy` is the one after the
other::

    result = deploy(DeployRequest(device="/dev/sda", image=Path("debian.qcow2"), swap_mb=1024))
    print(result.root_uuid)

A partition image gets partitions and a boot loader, a whole-disk image has its own. There is no logic here: each step
belongs to the module that it calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libironic_disk import configdrive, filesystems, grub, images, partitioner, partitionimages, wholedisk
from libironic_disk.configdrive import ConfigDrive
from libironic_disk.errors import BootImpossible, DiskState, LayoutInvalid, leaving
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.filesystems import Probed
from libironic_disk.grub import BootInstalled, BootPlan, RootPartition
from libironic_disk.images import ImageType, ImageWritten, InspectedImage
from libironic_disk.machine import process
from libironic_disk.machine.disks.staging import StagedDisk
from libironic_disk.pure.disks import drawing
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Existing, Plan, PlannedPartition
from libironic_disk.pure.images.inspection import Proof
from libironic_disk.pure.report import DeployedPartition, DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.request import BootLoader, DeployRequest, FirmwareEntry, check_root_only, layout_of
from libironic_disk.wholedisk import WholeDiskPlan, WholeDiskWritten


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployPlan:
    """Everything that was decided; printing it shows it."""

    request: DeployRequest
    disk: Plan | WholeDiskPlan
    image: InspectedImage
    drive: ConfigDrive | None
    boot: BootPlan | None

    def __str__(self) -> str:
        """Return the plan for people."""
        if isinstance(self.disk, WholeDiskPlan):
            return str(self.disk)
        boot = "no boot loader on the disk" if self.boot is None else str(self.boot)
        return f"{drawing.as_text(self.disk)}\nroot gets the {self.image.format} image {self.image.name}\n{boot}"


def deploy(
    request: DeployRequest,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = partitioner.LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> DeployResult:
    """Put an image on a disk so that the machine boots it.

    Args:
        request: what is to be on the disk.
        sink: told what happens.
        cancel: thrown by the caller, the work stops.
        lock_timeout: seconds to wait for another user's lock on the disk.
        lock_path: a directory in which callers that share a host also lock each other out by oslo.concurrency.

    Raises:
        DiskError: what :func:`plan` and :func:`apply` raise.
    """
    wanted = plan(request, cancel=cancel)
    return apply(wanted, sink=sink, cancel=cancel, lock_timeout=lock_timeout, lock_path=lock_path)


@leaving(DiskState.UNCHANGED)
def plan(request: DeployRequest, *, cancel: Cancellation | None = None) -> DeployPlan:
    """Decide everything, and refuse what can't be done; the disk is opened read-only.

    Raises:
        RequestError: the request can't be carried out; the classes below it say why.
        DeviceError: the disk isn't one, or can't be read.
        SourceFailed: the image or the config drive can't be read.
        ImageDamaged: the image can't be unpacked, or ends too early, as far as it was looked at.
        ProgramError: qemu-img could not look into the image, or the config drive could not be built.
        Cancelled: the caller wished so.
    """
    facts = partitioner.observe(request.device, file_sector_size=request.file_sector_size)
    if request.image_type is ImageType.WHOLE_DISK:
        return _plan_whole_disk(request, facts, cancel)
    drive = _config_drive(request, facts, cancel)
    image = _inspected(request, cancel)
    layout = layout_of(request, config_drive_bytes=drive.size if drive else 0)
    wanted = partitioner.plan(layout, facts, existing=Existing.REPLACE)
    _check_rooms(wanted, image, drive)
    root = _required(wanted, Role.ROOT)
    partitionimages.check(
        image,
        target=f"the partition {root.name}",
        capacity=root.size,
        boots=request.boot_loader is BootLoader.GRUB,
        device=request.device,
        cancel=cancel,
    )
    boot = _boot(request, facts, wanted) if request.boot_loader is BootLoader.GRUB else None
    kinds = [part.filesystem for part in wanted.makes if part.filesystem is not None]
    process.require((*filesystems.required_tools(kinds), *images.required_tools(image)))
    return DeployPlan(request=request, disk=wanted, image=image, drive=drive, boot=boot)


def apply(
    wanted: DeployPlan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = partitioner.LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> DeployResult:
    """Do what was planned, in an order in which the disk boots only after the last write.

    The arguments are those of :func:`deploy`.

    Raises:
        DiskError: any of them. Its ``disk`` says in which state the disk was left.
    """
    switch = cancel or Cancellation()
    if isinstance(wanted.disk, WholeDiskPlan):
        written = wholedisk.apply(
            wanted.disk,
            sink=sink,
            cancel=switch,
            lock_timeout=lock_timeout,
            lock_path=lock_path,
            verify=wanted.request.verify,
        )
        return _result_of_whole_disk(written, _tell_firmware_of_image(wanted.request, written))
    with partitioner.stage(
        wanted.disk, sink=sink, cancel=switch, lock_timeout=lock_timeout, lock_path=lock_path
    ) as disk:
        partitioner.make_filesystems(disk, sink=sink, cancel=switch)
        if wanted.drive is not None:
            with phase(sink, Phase.CONFIG_DRIVE):
                part = _required(disk.plan, Role.CONFIG_DRIVE)
                configdrive.place(wanted.drive, disk.nodes[part.number], capacity=part.size, lock_timeout=None)
        with phase(sink, Phase.IMAGE, wanted.image.name):
            copied, root = _write_image(wanted, disk, sink, switch)
        installed = None
        if wanted.boot is not None:
            with phase(sink, Phase.BOOT_LOADER, str(wanted.boot.firmware)):
                installed = _install_grub(wanted.boot, disk, root, switch)
        disk.commit(installed.head if installed else ())
        warnings = _tell_firmware(wanted.request, wanted.boot, disk.plan)
        return _result(disk, root, installed, copied.proof, warnings)


def _inspected(request: DeployRequest, cancel: Cancellation | None) -> InspectedImage:
    image = images.inspect(
        request.image,
        declared=request.image_format,
        checksum=request.image_checksum,
        engine=request.image_engine,
        size=request.image_size,
        policy=request.image_policy,
        cancel=cancel,
    )
    images.check_apart(image, request.device)
    return image


def _config_drive(request: DeployRequest, facts: DiskFacts, cancel: Cancellation | None) -> ConfigDrive | None:
    if request.config_drive is None:
        return None
    return configdrive.load(
        request.config_drive,
        limit=request.config_drive_limit,
        sector_size=facts.topology.sector_size,
        http_policy=request.http_policy,
        cancel=cancel,
    )


def _plan_whole_disk(request: DeployRequest, facts: DiskFacts, cancel: Cancellation | None) -> DeployPlan:
    check_root_only(request)
    drive = _config_drive(request, facts, cancel)
    image = _inspected(request, cancel)
    wanted = wholedisk.plan(
        image,
        facts,
        drive=drive,
        grow=request.grow,
        other_sectors=request.image_other_sectors,
        may_be_cut=request.image_may_be_cut,
        seed=request.seed,
    )
    return DeployPlan(request=request, disk=wanted, image=image, drive=drive, boot=None)


def _check_rooms(wanted: Plan, image: InspectedImage, drive: ConfigDrive | None) -> None:
    root = _required(wanted, Role.ROOT)
    if root.filesystem is not None:
        raise LayoutInvalid(problems=("the root partition gets the image: it can't have a file system of its own",))
    images.check_room(image, f"the partition {root.name}", root.size)
    if drive is None:
        return
    part = _required(wanted, Role.CONFIG_DRIVE)
    if part.size < drive.size or part.filesystem is not None:
        problem = f"partition {part.name!r} has to be blank and have the config drive's {drive.size} bytes"
        raise LayoutInvalid(problems=(problem,))


def _required(wanted: Plan, role: Role) -> PlannedPartition:
    part = wanted.partition(role)
    if part is None:
        raise LayoutInvalid(problems=(f"there is no partition with the role {role}",))
    return part


def _boot(request: DeployRequest, facts: DiskFacts, wanted: Plan) -> BootPlan:
    bios_boot = wanted.partition(Role.BIOS_BOOT)
    return grub.plan_boot(
        device=wanted.device,
        firmware=request.firmware,
        architecture=request.architecture,
        table=wanted.table,
        sector_size=facts.topology.sector_size,
        first_partition_start=min(part.start for part in wanted.partitions),
        bios_boot=bios_boot.span if bios_boot else None,
        has_esp=wanted.partition(Role.ESP) is not None,
        kernel_parameters=request.kernel_parameters,
        timeout=request.menu_timeout,
        serial=request.serial,
        signed=request.signed,
    )


def _write_image(
    wanted: DeployPlan, disk: StagedDisk, sink: EventSink, cancel: Cancellation
) -> tuple[ImageWritten, Probed]:
    part = _required(disk.plan, Role.ROOT)
    return partitionimages.write(
        wanted.image,
        disk.nodes[part.number],
        capacity=part.size,
        sink=sink,
        cancel=cancel,
        spool_dir=wanted.request.spool_dir,
        verify=wanted.request.verify,
    )


def _install_grub(boot: BootPlan, disk: StagedDisk, root: Probed, cancel: Cancellation) -> BootInstalled:
    if root.kind not in grub.ROOT_FILE_SYSTEMS:
        raise BootImpossible(
            device=disk.plan.device, reason=f"the image holds {root.kind}, and GRUB can't start from it"
        )
    part = _required(disk.plan, Role.ROOT)
    bios_boot, esp = disk.plan.partition(Role.BIOS_BOOT), disk.plan.partition(Role.ESP)
    return grub.install(
        boot,
        root=RootPartition(
            node=disk.nodes[part.number],
            filesystem=FileSystem(root.kind),
            uuid=root.uuid,
            partuuid=part.uuid,
        ),
        bios_boot_node=disk.nodes[bios_boot.number] if bios_boot else None,
        esp_node=disk.nodes[esp.number] if esp else None,
        cancel=cancel,
    )


def _tell_firmware(request: DeployRequest, boot: BootPlan | None, disk: Plan) -> tuple[str, ...]:
    if boot is None or request.firmware_entry is FirmwareEntry.NEVER:
        return ()
    return grub.tell_firmware(boot, disk)


def _unproven(proof: Proof) -> tuple[str, ...]:
    if proof is not Proof.NONE:
        return ()
    return ("nothing shows that the image came whole: it has no checksum, and its source didn't say how long it is",)


def _result(
    disk: StagedDisk, root: Probed, installed: BootInstalled | None, proof: Proof, warnings: tuple[str, ...]
) -> DeployResult:
    plan = disk.plan
    is_file = plan.kind is DiskKind.PLAIN_FILE
    kept = {part.number: filesystems.read(disk.nodes[part.number]) for part in plan.partitions if part.keep}
    partitions = tuple(
        _deployed(part, "" if is_file else disk.nodes[part.number], root, kept) for part in plan.partitions
    )
    return DeployResult(
        device=plan.device,
        table=plan.table,
        disk_id=plan.disk_id,
        partitions=partitions,
        boot_entries=tuple(entry.id for entry in installed.entries) if installed else (),
        proof=proof,
        warnings=(*_unproven(proof), *(installed.notes if installed else ()), *warnings),
    )


def _tell_firmware_of_image(request: DeployRequest, written: WholeDiskWritten) -> tuple[str, ...]:
    if request.firmware is not Firmware.UEFI or request.firmware_entry is FirmwareEntry.NEVER:
        return ()
    return wholedisk.tell_firmware(written, request.architecture, label="libironic_disk")


def _result_of_whole_disk(written: WholeDiskWritten, warnings: tuple[str, ...]) -> DeployResult:
    partitions = tuple(
        DeployedPartition(
            number=part.number,
            name=part.name,
            role=written.role_of(part),
            node=written.nodes.get(part.number, ""),
            start=part.start,
            size=part.size,
            partuuid=part.uuid,
            filesystem=held.kind if (held := written.contents.get(part.number)) else "",
            label=held.label if held else "",
            filesystem_uuid=held.uuid if held else "",
        )
        for part in (written.table.partitions if written.table else ())
    )
    return DeployResult(
        device=written.device,
        table=written.table.kind if written.table else None,
        disk_id=written.disk_id,
        partitions=partitions,
        is_whole_disk=True,
        proof=written.proof,
        warnings=(*_unproven(written.proof), *written.warnings, *warnings),
    )


def _deployed(part: PlannedPartition, node: str, root: Probed, kept: Mapping[int, Probed | None]) -> DeployedPartition:
    held = Probed(kind=part.filesystem or "", label=part.label, uuid=part.filesystem_uuid)
    if part.keep:
        # What is in it may be another thing by now than what the layout once made.
        held = kept.get(part.number) or Probed(kind="")
    if part.role is Role.ROOT:
        held = root
    return DeployedPartition(
        number=part.number,
        name=part.name,
        role=part.role,
        node=node,
        start=part.start,
        size=part.size,
        partuuid=part.uuid,
        filesystem=held.kind,
        label=held.label,
        filesystem_uuid=held.uuid,
        mount_point=part.mount_point,
    )
