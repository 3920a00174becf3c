"""What a caller asks of a deployment, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from libironic_disk import configdrive
from libironic_disk.errors import LayoutInvalid
from libironic_disk.images import IMAGE_POLICY, ChecksumSource, Engine, ImageFormat, ImageSource, ImageType
from libironic_disk.machine.http import DEFAULT_POLICY, HttpPolicy
from libironic_disk.machine.images import opening
from libironic_disk.pure.boot.grubcfg import SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem, Layout
from libironic_disk.pure.disks.presets import ironic_layout
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.words import settle

# What Ironic says beside the formats: "gpt" is what it calls a raw image with a partition table of either kind.
_IRONIC_FORMATS: Final[Mapping[str, ImageFormat | None]] = {"gpt": ImageFormat.RAW, "unknown": None}
_OF_A_LAYOUT: Final = ("swap_mb", "ephemeral_mb", "ephemeral_format", "preserve_ephemeral", "table", "seed")


class BootLoader(StrEnum):
    """What starts the kernel of the deployed image."""

    GRUB = "grub"
    """A GRUB of ours on the disk."""
    NONE = "none"
    """Nothing on the disk, the machine boots over the network or from virtual media."""


class FirmwareEntry(StrEnum):
    """Whether the firmware of the machine that runs this is told of the new system."""

    AUTO = "auto"
    """Under UEFI, where there are EFI variables and the disk is one of this machine's."""
    NEVER = "never"
    """As for a disk that another machine will boot from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """What is to be on a disk. An enumeration's word is as good as its member; another type raises LayoutInvalid.

    Attributes:
        device: the whole disk.
        file_sector_size: says that ``device`` is a plain file, to be a disk with sectors of so many bytes.
        image: an image, from wherever :func:`libironic_disk.images.inspect` takes it: a file, URLs, a stream.
        image_format: what it was declared to be; None (or ``unknown``) accepts raw and qcow2, and ``gpt`` means raw.
        image_type: whether it is one file system, which gets the partitions that follow, or a whole disk with its own.
        image_size: how many bytes its source will give, where that is known.
        image_checksum: what these bytes must have: a value, or the place of a checksum file.
        image_engine: what writes it.
        image_policy: how patient to be with the image's servers.
        image_may_be_cut: take a whole-disk image that ends before its partitions do.
        image_other_sectors: take a whole-disk image whose GPT is for sectors of another size, and write that anew.
        grow: give a whole-disk image's last partition, and its file system, what is free behind it.
        verify: read the image back from the disk before the disk may boot.
        layout: the partitions; None for Ironic's, made from the seven fields that follow.
        root_mb: MiB for the root partition; None for all that remains. A whole-disk image has its own.
        swap_mb: MiB of swap; 0 for none.
        ephemeral_mb: MiB for the ephemeral volume; 0 for none.
        ephemeral_format: its file system.
        preserve_ephemeral: keep what is in it.
        table: GPT or MBR; None for GPT under UEFI and MBR under BIOS.
        seed: makes every identity follow from it.
        config_drive: in any form that :func:`libironic_disk.configdrive.load` takes.
        config_drive_limit: how many bytes it may have.
        http_policy: how a config drive's URL is read.
        firmware: what will start the machine.
        architecture: of the machine.
        boot_loader: whether the disk gets a GRUB.
        firmware_entry: whether this machine's firmware is told.
        kernel_parameters: for the image's kernel.
        menu_timeout: seconds for which GRUB waits.
        serial: a serial port for GRUB's menu.
        signed: take the signed shim and GRUB of this machine's packages under UEFI, for Secure Boot.
        spool_dir: where qemu-img's input is kept if it isn't a plain file.
    """

    device: str
    image: ImageSource
    file_sector_size: int | None = None
    image_format: ImageFormat | None = None
    image_type: ImageType = ImageType.PARTITION
    image_size: int | None = None
    image_checksum: ChecksumSource | None = None
    image_engine: Engine = Engine.NATIVE
    image_policy: HttpPolicy = IMAGE_POLICY
    image_may_be_cut: bool = False
    grow: bool = False
    image_other_sectors: bool = False
    verify: bool = False
    layout: Layout | None = None
    root_mb: int | None = None
    swap_mb: int = 0
    ephemeral_mb: int = 0
    ephemeral_format: str = FileSystem.EXT4
    preserve_ephemeral: bool = False
    table: TableKind | None = None
    seed: bytes | None = None
    config_drive: configdrive.Source | None = None
    config_drive_limit: int = configdrive.DEFAULT_LIMIT
    http_policy: HttpPolicy = DEFAULT_POLICY
    firmware: Firmware = Firmware.UEFI
    architecture: Architecture = Architecture.X86_64
    boot_loader: BootLoader = BootLoader.GRUB
    firmware_entry: FirmwareEntry = FirmwareEntry.AUTO
    kernel_parameters: KernelParameters = field(default_factory=KernelParameters)
    menu_timeout: int = 5
    serial: SerialConsole | None = None
    signed: bool = False
    spool_dir: Path | None = None

    def __post_init__(self) -> None:
        settle(
            self,
            readers={
                "device": (Path, str),
                "image": (object, _usable),
                "image_format": (str, lambda word: _IRONIC_FORMATS.get(word, word)),
                "kernel_parameters": (str, KernelParameters.parse),
            },
        )


def layout_of(request: DeployRequest, *, config_drive_bytes: int) -> Layout:
    """Return the layout that a request asks for; 0 bytes stand for no config drive.

    Raises:
        LayoutInvalid: it gives a layout, and beside it what a layout has to say; or a size that can't be.
    """
    if request.grow:
        problem = "grow was given for a partition image, whose root partition has the size that the request says"
        raise LayoutInvalid(problems=(problem,))
    if request.layout is not None:
        _check_nothing_beside(request)
        return request.layout
    return ironic_layout(
        root_mb=request.root_mb,
        swap_mb=request.swap_mb,
        ephemeral_mb=request.ephemeral_mb,
        ephemeral_format=request.ephemeral_format,
        preserve_ephemeral=request.preserve_ephemeral,
        config_drive_bytes=config_drive_bytes,
        firmware=request.firmware,
        table=request.table,
        architecture=request.architecture,
        seed=request.seed,
    )


def check_root_only(request: DeployRequest) -> None:
    """Check that a request for a whole-disk image asks for nothing that such an image has to bring itself.

    Raises:
        LayoutInvalid: it does; names each of these fields.
    """
    sizes = (name for name in _OF_A_LAYOUT if name != "seed")
    given = _given(request, (*sizes, "layout", "kernel_parameters", "menu_timeout", "serial", "signed"))
    if given:
        problems = tuple(f"{name} was given, but a whole-disk image can only be taken as it is" for name in given)
        raise LayoutInvalid(problems=problems)


def _usable(image: object) -> object:
    problem = opening.unusable(image)
    if problem is not None:
        raise LayoutInvalid(problems=(f"image is no image: {problem}",))
    return image


def _check_nothing_beside(request: DeployRequest) -> None:
    """Refuse what would be ignored: who asks for both a layout and, say, a kept volume would lose that volume."""
    both = _given(request, ("root_mb", *_OF_A_LAYOUT))
    if both:
        raise LayoutInvalid(problems=tuple(f"{name} was given beside a layout, which has to say it" for name in both))


def _given(request: DeployRequest, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the fields that say something else than when nothing is said."""
    unsaid = DeployRequest(device=request.device, image=request.image)
    return tuple(name for name in names if getattr(request, name) != getattr(unsaid, name))
