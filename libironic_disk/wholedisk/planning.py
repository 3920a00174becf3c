"""What becomes of a disk that gets a whole-disk image, and what of it can be refused before the first write."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from libironic_disk import images
from libironic_disk.configdrive import ConfigDrive
from libironic_disk.errors import DeviceFailed, DeviceReadOnly, ImageRefused, SourceFailed
from libironic_disk.images import InspectedImage
from libironic_disk.machine import process
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.machine.trees import growing
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind, Fingerprint, Signature, Topology
from libironic_disk.pure.disks.losses import old_metadata
from libironic_disk.pure.images.inspection import Engine, ImageFormat
from libironic_disk.pure.ranges import ByteRange, merged
from libironic_disk.pure.tables.geometry import HEAD_SIZE
from libironic_disk.pure.tables.gptcopy import MAGIC
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, Reader, TableKind
from libironic_disk.pure.tables.reading import kind_of_table
from libironic_disk.pure.wholedisks.changes import Changes, Wishes
from libironic_disk.units import in_words
from libironic_disk.wholedisk.reading import (
    Labels,
    Place,
    changes_of,
    check_contents,
    check_head,
    is_drive_by_name,
    opened_as,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDiskPlan:
    """What will be done to one disk; printing it shows it.

    Attributes:
        device: the path that was observed.
        kind: whether it is a block device or a plain file.
        size: bytes of the disk.
        topology: its sector sizes.
        fingerprint: what must still be true when the plan is applied.
        image: what it gets.
        wishes: what it gets besides.
        drive: the config drive.
        replaces: the table that is on it.
        destroys: every signature that will be gone.
        wipes: what is zeroed before the image is written.
        may_be_cut: whether an image is taken that ends before its partitions do.
        changes: the image's table as it will be, where it can be known now: of an image that comes as a stream, the
            labels of its partitions, and the logical ones of an MBR, show only once it is written.
    """

    device: str
    kind: DiskKind
    size: int
    topology: Topology
    fingerprint: Fingerprint
    image: InspectedImage
    wishes: Wishes
    drive: ConfigDrive | None = field(default=None, repr=False)
    replaces: FoundTable | None = None
    destroys: tuple[Signature, ...] = ()
    wipes: tuple[ByteRange, ...] = ()
    may_be_cut: bool = False
    changes: Changes | None = None

    @property
    def place(self) -> Place:
        """The disk as the image's place."""
        return Place(name=self.device, size=self.size, sector_size=self.topology.sector_size)

    def __str__(self) -> str:
        """Return the plan for people."""
        size = self.image.virtual_size
        lines = [
            f"{self.device}: {in_words(self.size)} in sectors of {self.topology.sector_size} bytes",
            f"gets the {self.image.format} whole-disk image {self.image.name}"
            + (f", {in_words(size)}" if size is not None else ""),
        ]
        if self.replaces is not None:
            old = self.replaces
            lines.append(f"destroys the {old.kind} table {old.disk_id} with {len(old.partitions)} partitions")
        lines += [f"destroys {found}" for found in self.destroys]
        lines += self._wishes_in_words()
        return "\n".join(lines)

    def _wishes_in_words(self) -> list[str]:
        known = self.changes
        lines = []
        if self.wishes.drive_size:
            lines.append(
                f"config drive of {in_words(self.wishes.drive_size)} {_on(known.drive, known) if known else ''}"
            )
        if self.wishes.grow:
            grown = known.grown if known else None
            lines.append(f"partition {grown.number} grows to {in_words(grown.size)}" if grown else "")
        if known is None and self.wishes.change_partitions:
            lines.append("where on the disk, the image's partitions will tell once it is written")
        return [line.rstrip() for line in (*lines, *(known.notes if known else ())) if line]


def _on(part: FoundPartition | None, known: Changes) -> str:
    if part is None:
        return ""
    what = "the new partition" if known.drive_is_new else "the image's own partition"
    return f"on {what} {part.number}, {in_words(part.size)} at {in_words(part.start)}"


def plan(
    image: InspectedImage,
    facts: DiskFacts,
    *,
    drive: ConfigDrive | None = None,
    grow: bool = False,
    other_sectors: bool = False,
    may_be_cut: bool = False,
    seed: bytes | None = None,
) -> WholeDiskPlan:
    """Decide what becomes of a disk, and refuse what can't work as far as it can be known; nothing is touched.

    Args:
        image: what :func:`libironic_disk.images.inspect` returned.
        facts: what :func:`libironic_disk.partitioner.observe` returned.
        drive: a config drive that fits the disk's sectors. It goes onto the image's own partition labelled
            ``config-2`` if that is large enough, else onto a new one.
        grow: give the last partition, and the ext, xfs or btrfs on it, what is free behind it.
        other_sectors: take an image whose GPT was made for sectors of another size, and write that for the disk's, if
            all that is in its partitions can be shown to work there.
        may_be_cut: take an image that ends before its partitions do, as some are published; what the disk held there
            stays. Without it such an image is taken for a copy that was cut off.
        seed: makes the identity of a new partition follow from it.

    Raises:
        ImageTooLarge: the disk is smaller than the image.
        GeometryMismatch: the image's table was made for sectors of another size.
        LayoutDoesNotFit: beside the image's partitions there is no room for the config drive.
        TableLimit: the image's table has no entry for it.
        ImageRefused: it isn't an image of a disk; its table is for a larger one, or such that nothing can be added; or
            it has to be decoded by qemu-img, which can't keep anything back.
        DeviceReadOnly: the disk can't be written.
        SourceFailed: the image can't be read.
        ImageDamaged: its first bytes can't be unpacked.
        ToolMissing: what makes an ext file system larger isn't installed.
    """
    if facts.read_only:
        raise DeviceReadOnly(device=facts.path)
    if image.engine is not Engine.NATIVE:
        reason = f"{image.engine} would write its first sectors first; a whole-disk image needs the native engine"
        raise ImageRefused(image=image.name, reason=reason)
    images.check_room(image, facts.path, facts.size)
    if grow:
        process.require(growing.TOOLS)
    wishes = Wishes.of(
        drive_size=drive.size if drive else 0,
        grow=grow,
        other_sectors=other_sectors,
        seed=seed or secrets.token_bytes(32),
    )
    return WholeDiskPlan(
        device=facts.path,
        kind=facts.kind,
        size=facts.size,
        topology=facts.topology,
        fingerprint=facts.fingerprint,
        image=image,
        wishes=wishes,
        drive=drive,
        replaces=facts.table,
        destroys=facts.signatures,
        wipes=merged(old_metadata(facts, facts.signatures)),
        may_be_cut=may_be_cut,
        changes=_foreseen(image, facts, wishes),
    )


def _foreseen(image: InspectedImage, facts: DiskFacts, wishes: Wishes) -> Changes | None:
    """Look at what can be read of an image before it is written; None where that doesn't say enough."""
    head = images.first_bytes(image, HEAD_SIZE)
    if head is None:
        return None
    disk = Place(name=facts.path, size=facts.size, sector_size=facts.topology.sector_size)
    sectors = check_head(head, image.virtual_size, image=image.name, disk=disk, other_sectors=wishes.other_sectors)
    of_image = partial(changes_of, disk=disk, wishes=wishes, image=image.name, sectors=sectors)
    source = raw_file(image)
    if source is not None:
        with source.opened() as opened, _read_by_libblkid(image):
            file = opened_as(opened.descriptor)
            labels = Labels(opened=file, size=source.size, name=image.name, sector_size=disk.sector_size)
            foreseen = of_image(opened.pread, is_drive=labels.is_drive)
            if foreseen is not None and sectors != disk.sector_size:
                check_contents(opened.pread, labels, foreseen.images_own, disk)
            if foreseen is not None and foreseen.grown is not None:
                labels.file_system(foreseen.grown)
            opened.check_unchanged()
            return foreseen
    # They have a GPT, or the primary partitions of an MBR; no labels, and of most MBRs no logical partitions.
    try:
        return of_image(_reader_of(head, disk.size, sectors), is_drive=is_drive_by_name)
    except _BehindTheHead:
        return None


@contextmanager
def _read_by_libblkid(image: InspectedImage) -> Iterator[None]:
    """Say of an image that it can't be read, and not of a device."""
    try:
        yield
    except DeviceFailed as error:
        raise SourceFailed(source=image.name, reason=error.reason) from error


def raw_file(image: InspectedImage) -> LocalFile | None:
    """Return the file of an image in which every byte can be looked at as it will be on the disk."""
    source = image.source
    is_raw = image.format is ImageFormat.RAW and image.compression is None
    return source if is_raw and isinstance(source, LocalFile) else None


class _BehindTheHead(Exception):
    """What was asked for isn't among the bytes that are at hand."""


def _reader_of(head: bytes, disk_size: int, sectors: int) -> Reader:
    """Return a reader of the first bytes of an image, which is as good as one of all of it, or says so.

    Whether a GPT has the head of its backup copy behind them makes no difference yet. Its entries, where they are
    elsewhere than usual, and the boot records of logical partitions do.
    """

    def found(offset: int, length: int) -> bytes:
        return head[offset : offset + length]

    is_gpt = kind_of_table(found, disk_size=disk_size, sector_size=sectors) is TableKind.GPT

    def read(offset: int, length: int) -> bytes:
        if offset + length > len(head) and not (is_gpt and offset >= len(head) and length <= len(MAGIC)):
            raise _BehindTheHead
        return found(offset, length)

    return read
