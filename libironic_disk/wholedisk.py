"""A whole-disk image on a disk: its own partition table, its own boot loader, whatever systems it has.

Two functions, after :func:`libironic_disk.images.inspect` and :func:`libironic_disk.partitioner.observe`::

    wanted = plan(image, facts)            # touches nothing, refuses what can't work
    print(wanted)
    written = apply(wanted)                # the disk boots with the last write, or not at all

The first and the last MiB of the disk are zeros while the image is written. What the image has there is kept in memory
until all else is on the disk and is known to be right, and its very first sector comes last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk import images
from libironic_disk.errors import DeviceFailed, DeviceReadOnly, DiskState, ImageDamaged, ImageRefused, leaving
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.images import InspectedImage
from libironic_disk.machine.disks import disk_io, ends, partition_nodes, sysfs, wiping
from libironic_disk.machine.disks.holding import HeldDisk, held
from libironic_disk.machine.disks.hostlock import host_lock
from libironic_disk.machine.disks.outcome import blanked_unless_finished
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.streaming import Streamed, stream
from libironic_disk.machine.images.target import open_target
from libironic_disk.machine.images.withholding import Withheld
from libironic_disk.partitioner import LOCK_TIMEOUT
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind, Fingerprint, Signature, Topology
from libironic_disk.pure.disks.losses import old_metadata
from libironic_disk.pure.images.inspection import Engine, Proof
from libironic_disk.pure.ranges import ByteRange, merged
from libironic_disk.pure.tables.geometry import HEAD_SIZE, check_geometry, check_is_disk, cut_off
from libironic_disk.pure.tables.model import Extent, FoundTable
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.units import in_words

_NODE_TIMEOUT: Final = 10.0
_NO_ID: Final = "0x00000000"


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
        replaces: the table that is on it.
        destroys: every signature that will be gone.
        wipes: what is zeroed before the image is written.
        may_be_cut: whether an image is taken that ends before its partitions do.
    """

    device: str
    kind: DiskKind
    size: int
    topology: Topology
    fingerprint: Fingerprint
    image: InspectedImage
    replaces: FoundTable | None
    destroys: tuple[Signature, ...]
    wipes: tuple[ByteRange, ...]
    may_be_cut: bool = False

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
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDiskWritten:
    """A disk that has the whole image, confirmed by the kernel and read back where it says what the disk is.

    Attributes:
        device: the disk.
        table: the image's partition table as it is on the disk, with what is wrong with it; None where it has none.
        nodes: from partition numbers to devices. They are missing where the disk is a plain file, and where the kernel
            refuses a partition, which ``warnings`` then says.
        bytes_read: how many bytes the source gave.
        bytes_written: how much of the disk, from its start, is the image, its zeros included.
        proof: what shows that the image came whole.
        seconds: how long it all took.
        warnings: what is not as one would wish.
    """

    device: str
    table: FoundTable | None
    nodes: Mapping[int, str]
    bytes_read: int
    bytes_written: int
    proof: Proof
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def disk_id(self) -> str:
        """The disk GUID, or ``0x1234abcd`` on an MBR; empty where the image gave the disk none."""
        return "" if self.table is None or self.table.disk_id == _NO_ID else self.table.disk_id


def plan(image: InspectedImage, facts: DiskFacts, *, may_be_cut: bool = False) -> WholeDiskPlan:
    """Decide what becomes of a disk, and refuse what can't work as far as it can be known; nothing is touched.

    Args:
        image: what :func:`libironic_disk.images.inspect` returned.
        facts: what :func:`libironic_disk.partitioner.observe` returned.
        may_be_cut: take an image that ends before its partitions do, as some are published; what the disk held there
            stays. Without it such an image is taken for a copy that was cut off.

    Raises:
        ImageTooLarge: the disk is smaller than the image.
        GeometryMismatch: the image's table was made for sectors of another size.
        ImageRefused: it isn't an image of a disk; its table is for a larger one; or it has to be decoded by qemu-img,
            which can't keep anything back.
        DeviceReadOnly: the disk can't be written.
        SourceFailed: the image can't be read.
        ImageDamaged: its first bytes can't be unpacked.
    """
    if facts.read_only:
        raise DeviceReadOnly(device=facts.path)
    if image.engine is not Engine.NATIVE:
        reason = f"{image.engine} would write its first sectors first; a whole-disk image needs the native engine"
        raise ImageRefused(image=image.name, reason=reason)
    images.check_room(image, facts.path, facts.size)
    head = images.first_bytes(image, HEAD_SIZE)
    wanted = WholeDiskPlan(
        device=facts.path,
        kind=facts.kind,
        size=facts.size,
        topology=facts.topology,
        fingerprint=facts.fingerprint,
        image=image,
        replaces=facts.table,
        destroys=facts.signatures,
        wipes=merged(old_metadata(facts, facts.signatures)),
        may_be_cut=may_be_cut,
    )
    if head is not None:
        _check_head(wanted, head, image.virtual_size)
    return wanted


def apply(
    wanted: WholeDiskPlan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
    verify: bool = False,
) -> WholeDiskWritten:
    """Write a whole-disk image so that the disk boots with the last write, or not at all.

    Args:
        wanted: the plan.
        sink: told what happens.
        cancel: thrown by the caller, the work stops and the disk does not boot.
        lock_timeout: seconds to wait for another user's lock.
        lock_path: a directory in which callers that share a host also lock each other out by oslo.concurrency.
        verify: read everything back from the disk and compare it before the disk may boot. Both ends of the disk are
            read back in any case.

    Raises:
        PlanOutdated: it isn't the disk that was planned for. Nothing was written.
        DeviceBusy: somebody uses it; names who. Nothing was written.
        DeviceLocked: somebody else kept the lock. Nothing was written.
        DeviceReadOnly: it can't be written.
        DeviceFailed: the kernel refused a read or a write, or the disk gives other bytes back.
        NodeMissing: the disk is finished, but one of its partitions didn't appear.
        ImageTooLarge, GeometryMismatch, ImageRefused: what :func:`plan` says, of an image that couldn't be looked into.
        ImageDamaged: it ends before its partitions do.
        DiskError: whatever reading, checking and decoding the image raises.
        Cancelled: the caller wished so.
    """
    switch = cancel or Cancellation()
    began = time.monotonic()
    with (
        leaving(DiskState.UNCHANGED),
        host_lock(wanted.device, lock_path, timeout=lock_timeout, cancel=switch),
        held(
            wanted.device,
            wanted.kind,
            sector_size=wanted.topology.sector_size,
            lock_timeout=lock_timeout,
            cancel=switch,
        ) as disk,
    ):
        with phase(sink, Phase.CHECK, wanted.device):
            disk.check(wanted.fingerprint)
            switch.check("checking the disk")
        partition_nodes.remove_all(disk.fd, disk.block)
        streamed, oddities = _write(wanted, disk, sink, switch, verify=verify)
        disk_io.forget(disk.fd)
        read = disk_io.reader(disk.fd, wanted.device)
        table = read_table(read, device=wanted.device, disk_size=wanted.size, sector_size=disk.sector_size)
        nodes, warnings = _told(disk, table)
        return WholeDiskWritten(
            device=wanted.device,
            table=table,
            nodes=nodes,
            bytes_read=streamed.read,
            bytes_written=streamed.size,
            proof=streamed.proof,
            seconds=time.monotonic() - began,
            warnings=(*oddities, *warnings),
        )


def _write(
    wanted: WholeDiskPlan,
    disk: HeldDisk,
    sink: EventSink,
    cancel: Cancellation,
    *,
    verify: bool,
) -> tuple[Streamed, tuple[str, ...]]:
    """Take away what the disk is, write the image, and give the disk what it shall be; return what is odd about it."""

    def blank() -> None:
        ends.blank_ends(disk.fd, disk.node, wanted.size, disk.sector_size)

    with blanked_unless_finished(
        disk.progress, wanted.device, blank=blank, forget=lambda: partition_nodes.remove_all(disk.fd, disk.block)
    ):
        with phase(sink, Phase.WIPE, wanted.device):
            blank()
            wiping.erase(disk.fd, disk.node, wanted.wipes, [ByteRange(0, wanted.size)], disk.sector_size, cancel)
        with phase(sink, Phase.IMAGE, wanted.image.name):
            streamed, withheld = _stream(wanted, disk, sink, cancel, verify=verify)
        _check_head(wanted, withheld[0].data[:HEAD_SIZE], streamed.size)
        oddities = _check_whole(wanted, disk, streamed.size, withheld)
        cancel.check("the last check before the first sector is written")
        with phase(sink, Phase.COMMIT, wanted.device):
            ends.write_ends(disk.fd, disk.node, withheld, disk.sector_size)
            disk.progress.state = DiskState.FINISHED
    return streamed, oddities


def _stream(
    wanted: WholeDiskPlan, disk: HeldDisk, sink: EventSink, cancel: Cancellation, *, verify: bool
) -> tuple[Streamed, tuple[Extent, ...]]:
    """Write all of the image but for the ends of the disk, and return what belongs there."""
    spans = ends.ends(wanted.size)
    with open_target(disk.node, capacity=wanted.size, recording=verify) as target:
        withheld = Withheld(target, spans)
        streamed = stream(
            wanted.image,
            withheld,
            meter=Meter(sink, wanted.image.source.size, cancel),
            cancel=cancel,
            spill_start=spans[0].end,
            spill_end=spans[-1].start,
        )
        if verify:
            target.verify(cancel=cancel, moved=lambda done: None)
    return streamed, withheld.extents()


def _check_whole(wanted: WholeDiskPlan, disk: HeldDisk, image_size: int, withheld: Sequence[Extent]) -> tuple[str, ...]:
    """Check that the image goes on as far as its table says; return what else is wrong with that, in words."""
    on_disk = disk_io.reader(disk.fd, disk.node)

    def read(offset: int, length: int) -> bytes:
        data = bytearray(on_disk(offset, length))
        for start, kept in withheld:
            first, end = max(offset, start), min(offset + len(data), start + len(kept))
            if first < end:
                data[first - offset : end - offset] = kept[first - start : end - start]
        return bytes(data)

    disk_io.forget(disk.fd)

    def table(size: int) -> FoundTable | None:
        return read_table(read, device=wanted.image.name, disk_size=size, sector_size=disk.sector_size)

    missing = tuple(cut_off(table(wanted.size), image_size))
    if missing and not wanted.may_be_cut:
        raise ImageDamaged(image=wanted.image.name, reason="; ".join(missing), offset=image_size)
    if missing:
        return tuple(f"the image was cut: {each}" for each in missing)
    # By the image's own size: on a larger disk its backup GPT can't be where it should.
    found = table(image_size)
    return found.problems if found else ()


def _check_head(wanted: WholeDiskPlan, head: bytes, image_size: int | None) -> None:
    check_is_disk(head, image=wanted.image.name)
    check_geometry(
        head,
        image=wanted.image.name,
        image_size=image_size,
        device=wanted.device,
        disk_size=wanted.size,
        sector_size=wanted.topology.sector_size,
    )


def _told(disk: HeldDisk, table: FoundTable | None) -> tuple[Mapping[int, str], tuple[str, ...]]:
    """Tell the kernel of the disk's partitions, which not every kernel can read from the table itself."""
    if table is None or disk.kind is DiskKind.PLAIN_FILE:
        return {}, ()
    if not sysfs.can_have_partitions(disk.block):
        return {}, (f"the kernel gives {disk.node} no partitions",)
    warnings = []
    told = []
    for part in table.partitions:
        span = ByteRange(part.start, part.end)
        try:
            partition_nodes.add(disk.fd, disk.block, part.number, span)
        except DeviceFailed as refused:
            # As for an ISO image's, which overlap. Its table is what the image's owner made it, and firmware boots it.
            warnings.append(str(refused))
        else:
            told.append((part.number, span))
    nodes = partition_nodes.wait_for(disk.block, told, timeout=_NODE_TIMEOUT)
    return nodes, tuple(warnings)
