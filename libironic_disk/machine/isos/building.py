"""A boot ISO made of a kernel, a RAM disk and some files: for a BIOS and for UEFI, as a CD and as a disk.

GRUB is in it twice: as the El Torito image that a BIOS starts, which the MBR starts too, and on an EFI system partition
that is both the other El Torito image and a partition of the GPT. The tree is in a partition as well. Everything is
made by GRUB's own programs, mtools and xorriso; nothing is mounted, and nobody has to be root.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from libironic_disk.errors import BootIsoRefused, ConfigDriveInvalid, PathFailed, SourceChanged, SourceFailed, reason_of
from libironic_disk.events import Cancellation
from libironic_disk.machine import process, scratch
from libironic_disk.machine.boot import esp, grub_image, signed_loader
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.drives import fat_image
from libironic_disk.machine.isos.writing import check_room
from libironic_disk.machine.isos.xorriso import NOT_WHOLE, is_partition
from libironic_disk.machine.replacing import parts_of, replacing, require_plain
from libironic_disk.pure.boot import grubcfg
from libironic_disk.pure.bootisos import spec as specs
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.roles import Architecture, Firmware, Role, gpt_type
from libironic_disk.units import MIB

_EFI_PLATFORMS: Final[Mapping[Architecture, Platform]] = {
    Architecture.AARCH64: Platform.ARM64_EFI,
    Architecture.X86_64: Platform.X86_64_EFI,
}
_ESP_LABEL: Final = "ESP"
_SECTOR: Final = 512
# UEFI 2.10, 5.3.3; in MBRs the ISO's partition gets the type that GPTs know as Microsoft's data.
_ESP_TYPE: Final = str(gpt_type(Role.ESP, Architecture.X86_64, None)).upper()
_DATA_TYPE: Final = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
_1980: Final = 315532800
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(_1980)}
_CHUNK: Final = MIB
_TIMEOUT: Final = 60.0
_SLOWEST: Final = 4 * MIB  # bytes per second


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file that goes into the ISO: where it is, without symbolic links, its size in bytes, when it was changed."""

    path: Path
    size: int
    changed: int


def estimated_size(spec: BootIsoSpec) -> int:
    """Return the bytes that the ISO will have at most; the true size is less by a few MiB.

    Raises:
        BootIsoRefused: the kernel or the RAM disk isn't there, is empty or too large.
    """
    kernel, ramdisk = _sources(spec)
    return specs.estimated_size(spec, kernel=kernel.size, ramdisk=ramdisk.size)


def build(spec: BootIsoSpec, destination: Path, *, cancel: Cancellation | None = None) -> None:
    """Make a boot ISO; the same specification gives the same bytes, with the same GRUB and xorriso.

    The file has its name only when it is complete and on the disk. What had that name before is replaced. For the time
    of the work there is a hidden directory beside it, with GRUB and the further files.

    Args:
        spec: what it is made of.
        destination: the file.
        cancel: thrown by the caller, it ends the work.

    Raises:
        BootIsoRefused: the kernel or the RAM disk isn't there, is empty or too large, or is the destination.
        BootImpossible, ToolMissing: this machine has no GRUB for it, or not all programs.
        NotEnoughRoom: the destination's file system hasn't room for it.
        PathFailed: the destination can't be written.
        SourceFailed: the kernel or the RAM disk can't be read, or became another one meanwhile.
        ProgramError: a program failed.
        Cancelled: the caller wished so. After any error there is nothing new, and what was there before is still.
    """
    # A program takes some relative paths for options or addresses.
    destination = destination.absolute()
    kernel, ramdisk = _sources(spec)
    if any(_is_same(source.path, destination) for source in (kernel, ramdisk)):
        raise BootIsoRefused(iso=spec.volume_id, reason=f"{destination} is a part of it")
    _require(spec)
    size = specs.estimated_size(spec, kernel=kernel.size, ramdisk=ramdisk.size)
    # What is neither kernel nor RAM disk is there twice before the end.
    check_room(destination.parent, 2 * size - kernel.size - ramdisk.size)
    uuid = specs.volume_uuid(_digest(spec, (kernel, ramdisk), cancel))
    require_plain(destination)
    with replacing(destination) as temporary, scratch.directory_at(parts_of(temporary)) as made:
        parts = _parts(spec, made, grubcfg.early_config(uuid), specs.menu(spec, uuid))
        _cancelled(cancel)
        argv = _arguments(spec, parts, uuid=uuid, output=temporary)
        grafts = _grafts({specs.KERNEL: kernel.path, specs.RAMDISK: ramdisk.path, "/": parts.tree})
        timeout = _TIMEOUT + size / _SLOWEST
        process.run(*argv, *grafts, timeout=timeout, environment=_ENVIRONMENT, cancel=cancel)
        _check(spec, temporary, (kernel, ramdisk), parts)
        _finish(spec, temporary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What was made for the ISO: a tree without kernel and RAM disk, and the EFI system partition if there is one."""

    tree: Path
    esp: Path | None


def _sources(spec: BootIsoSpec) -> tuple[_Source, _Source]:
    return _source(spec, "kernel", spec.kernel), _source(spec, "RAM disk", spec.ramdisk)


def _source(spec: BootIsoSpec, what: str, path: PurePath) -> _Source:
    try:
        found = Path(path).resolve(strict=True)
        status = found.stat()
        readable = os.access(found, os.R_OK)
    except RuntimeError as error:  # before Python 3.13
        raise BootIsoRefused(iso=spec.volume_id, reason=f"its {what} {path}: a loop of symbolic links") from error
    except (OSError, ValueError) as error:
        raise BootIsoRefused(iso=spec.volume_id, reason=f"its {what} {path}: {reason_of(error)}") from error
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "is no file"
    elif not readable:
        reason = "may not be read"
    elif not status.st_size:
        reason = "is empty"
    elif status.st_size > specs.LARGEST_FILE:
        reason = "is too large for a file of an ISO"
    if reason:
        raise BootIsoRefused(iso=spec.volume_id, reason=f"its {what} {path} {reason}")
    return _Source(path=found, size=status.st_size, changed=status.st_mtime_ns)


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _require(spec: BootIsoSpec) -> None:
    process.require(("grub-mkimage", "xorriso", *fat_image.TOOLS))
    if Firmware.BIOS in spec.starts_on:
        grub_image.require(Platform.I386_PC)
    if Firmware.UEFI not in spec.starts_on:
        return
    if spec.signed:
        signed_loader.cd_files(spec.volume_id, spec.architecture)
    else:
        grub_image.require(_EFI_PLATFORMS[spec.architecture])


def _digest(spec: BootIsoSpec, sources: tuple[_Source, ...], cancel: Cancellation | None) -> bytes:
    """Return what tells this ISO from others that a machine might see at the same time."""
    texts = [spec.volume_id, spec.publisher_id, str(spec.parameters), spec.architecture, str(spec.signed)]
    texts += [*sorted(spec.starts_on), str(spec.timeout), str(spec.serial)]
    digest = hashlib.blake2b(repr(texts).encode())
    for path, content in sorted(specs.checked_paths(spec).items()):
        digest.update(repr((path, len(content))).encode() + content)
    for source in sources:
        digest.update(str(source.size).encode())
        try:
            with source.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    _cancelled(cancel)
                    digest.update(chunk)
        except OSError as error:
            raise SourceFailed(source=str(source.path), reason=error.strerror or str(error)) from error
    return digest.digest()


def _cancelled(cancel: Cancellation | None) -> None:
    if cancel is not None:
        cancel.check("making a boot ISO")


def _parts(spec: BootIsoSpec, made: Path, early: str, menu: str) -> _Parts:
    tree = made / "tree"
    files = specs.checked_paths(spec) | {specs.GRUB_CONFIG: menu.encode()}
    if Firmware.BIOS in spec.starts_on:
        files[specs.BIOS_IMAGE] = grub_image.cd_image(Platform.I386_PC, early)
    for path, content in files.items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    if Firmware.UEFI not in spec.starts_on:
        return _Parts(tree=tree, esp=None)
    image = made / "esp.img"
    files = _esp_files(spec, early)
    try:
        image.write_bytes(fat_image.make(files, sector_size=_SECTOR, label=_ESP_LABEL, tempdir=made))
    except ConfigDriveInvalid as error:
        reason = f"its EFI system partition can't be made: {error.reason}"
        raise BootIsoRefused(iso=spec.volume_id, reason=reason) from error
    return _Parts(tree=tree, esp=image)


def _esp_files(spec: BootIsoSpec, early: str) -> dict[str, bytes]:
    if spec.signed:
        # On a disk this partition is where the signed GRUB looks; on a CD it sees the ISO's tree instead.
        stub = f"{early}configfile $prefix/grub.cfg\n".encode()
        return signed_loader.cd_files(spec.volume_id, spec.architecture) | {specs.GRUB_CONFIG.lstrip("/"): stub}
    loader = esp.REMOVABLE_LOADERS[spec.architecture]
    return {loader: grub_image.cd_image(_EFI_PLATFORMS[spec.architecture], early)}


def _arguments(spec: BootIsoSpec, parts: _Parts, *, uuid: str, output: Path) -> list[str]:
    """Return xorriso's command but for what goes into the tree; in it nothing depends on this machine or the time."""
    date = uuid.replace("-", "")
    # What it can't read it would else fill with zeros, and call that a success.
    argv = [
        "xorriso",
        "-no_rc",
        "-abort_on",
        "MISHAP",
        "-return_with",
        "MISHAP",
        "32",
        "-as",
        "mkisofs",
        "-quiet",
        "-o",
        str(output),
        "-V",
        spec.volume_id,
    ]
    argv += ["-publisher", spec.publisher_id] if spec.publisher_id else []
    argv += ["-r", "-J", "-joliet-long", "-file-mode", "0444", "-dir-mode", "0555", "-no-pad"]
    argv += [f"--modification-date={date}", "--set_all_file_dates", "1980010100000000", "-c", specs.CATALOG]
    # The tree as a partition that begins at 32 KiB: who mounts the partition sees it too.
    argv += ["-partition_offset", str(specs.PARTITION_OFFSET), "-iso_mbr_part_type", _DATA_TYPE]
    if parts.esp is not None:
        argv += ["-append_partition", "2", _ESP_TYPE, str(parts.esp), "-appended_part_as_gpt"]
    if Firmware.BIOS in spec.starts_on:
        # Some BIOSes start no disk that has no partition marked as active.
        argv += ["--grub2-mbr", str(grub_image.cd_boot_sector()), "--mbr-force-bootable"]
        argv += ["-b", specs.BIOS_IMAGE, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
        argv += ["--grub2-boot-info", "-eltorito-alt-boot"]
    if parts.esp is not None:
        argv += ["-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]
    return [*argv, "-graft-points"]


def _grafts(places: Mapping[str, Path]) -> list[str]:
    """Return what goes where in the tree, in the form that -graft-points wants."""
    return [f"{_escaped(inside)}={_escaped(str(outside))}" for inside, outside in places.items()]


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace("=", "\\=")


def _check(spec: BootIsoSpec, output: Path, sources: tuple[_Source, ...], parts: _Parts) -> None:
    """Refuse an ISO whose kernel or RAM disk became another one meanwhile, or that isn't whole."""
    for source in sources:
        try:
            status = source.path.stat()
        except OSError as error:
            raise SourceChanged(source=str(source.path), reason=error.strerror or str(error)) from error
        if (status.st_size, status.st_mtime_ns) != (source.size, source.changed):
            raise SourceChanged(source=str(source.path), reason="it was written to while it was read")
    if output.stat().st_size < sum(source.size for source in sources):
        raise BootIsoRefused(iso=spec.volume_id, reason=f"{NOT_WHOLE} in {output.parent}")
    if parts.esp is not None and not is_partition(output, None, parts.esp.read_bytes()):
        raise BootIsoRefused(iso=spec.volume_id, reason=f"{NOT_WHOLE} in {output.parent}")


def _finish(spec: BootIsoSpec, output: Path) -> None:
    """Write the publisher id as it was given, and see all of the ISO to the disk.

    To xorriso it has no lower case (ECMA-119, 8.4.20), and whoever compares it with the one that they know has.
    """
    publisher = spec.publisher_id.encode("ascii").ljust(specs.PUBLISHER_SIZE)
    try:
        with output.open("r+b") as file:
            for descriptor in specs.DESCRIPTORS if spec.publisher_id else ():
                file.seek(descriptor)
                if file.read(len(specs.PRIMARY)) == specs.PRIMARY:
                    file.seek(descriptor + specs.PUBLISHER_OFFSET)
                    file.write(publisher)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PathFailed(tree="this machine", path=str(output), reason=error.strerror or str(error)) from error
