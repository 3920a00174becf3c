"""Doing what was planned: the image, then what its disk has besides, and what makes it a disk at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceFailed, DiskState, ImageDamaged, leaving
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.machine.disks import disk_io, ends, partition_nodes, sysfs, wiping
from libironic_disk.machine.disks.holding import HeldDisk, held
from libironic_disk.machine.disks.hostlock import host_lock
from libironic_disk.machine.disks.outcome import blanked_unless_finished
from libironic_disk.machine.disks.overlay import Overlay
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.streaming import Streamed, stream
from libironic_disk.machine.images.target import open_target
from libironic_disk.machine.images.withholding import Withheld
from libironic_disk.machine.trees import growing
from libironic_disk.partitioner import LOCK_TIMEOUT
from libironic_disk.pure.disks.facts import DiskKind, Signature
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, RECORD_SIZE, slots_of
from libironic_disk.pure.tables.geometry import HEAD_SIZE, cut_off
from libironic_disk.pure.tables.model import Extent, FoundPartition, FoundTable
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.pure.wholedisks.changes import Changes
from libironic_disk.units import align_up
from libironic_disk.wholedisk import roots
from libironic_disk.wholedisk.planning import WholeDiskPlan, raw_file
from libironic_disk.wholedisk.reading import Labels, changes_of, check_contents, check_head, opened_as
from libironic_disk.wholedisk.written import WholeDiskWritten

_NODE_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oddities:
    """What isn't as it should be in an image, in words: where it was cut, or what is wrong with its table."""

    cut: tuple[str, ...] = ()
    of_table: tuple[str, ...] = ()

    def said(self, table: FoundTable | None, *, is_changed: bool) -> tuple[str, ...]:
        """Return it for people, who want to know whether it still is so in the disk's table."""
        left = table.problems if table is not None else ()
        return (
            *(f"the image was cut: {each}" for each in self.cut),
            *(
                f"{each}: so in the image, and put right on the disk" if is_changed and each not in left else each
                for each in self.of_table
            ),
        )


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
        streamed, done, oddities = _write(wanted, disk, sink, switch, verify=verify)
        disk_io.forget(disk.fd)
        read = disk_io.reader(disk.fd, wanted.device)
        table = read_table(read, device=wanted.device, disk_size=wanted.size, sector_size=disk.sector_size)
        nodes, warnings = _told(disk, table)
        contents = _contents(disk, wanted.size, table)
        root, unclear = roots.root_of(table, contents, nodes)
        return WholeDiskWritten(
            device=wanted.device,
            table=table,
            nodes={} if disk.kind is DiskKind.PLAIN_FILE else nodes,
            contents=contents,
            root=root,
            drive=done.drive.number if done is not None and done.drive is not None else None,
            bytes_read=streamed.read,
            bytes_written=streamed.size,
            proof=streamed.proof,
            seconds=time.monotonic() - began,
            warnings=(
                *oddities.said(table, is_changed=done is not None),
                *(done.notes if done else ()),
                *warnings,
                *unclear,
            ),
        )


def _write(
    wanted: WholeDiskPlan,
    disk: HeldDisk,
    sink: EventSink,
    cancel: Cancellation,
    *,
    verify: bool,
) -> tuple[Streamed, Changes | None, _Oddities]:
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
        coming = Overlay(disk.fd, disk.node, withheld)
        sectors = check_head(
            coming.read(0, HEAD_SIZE),
            streamed.size,
            image=wanted.image.name,
            disk=wanted.place,
            other_sectors=wanted.wishes.other_sectors,
        )
        oddities = _check_whole(wanted, coming, streamed.size, sectors)
        done = _changed(wanted, disk, coming, sectors, sink, cancel)
        cancel.check("the last check before the first sector is written")
        with phase(sink, Phase.COMMIT, wanted.device):
            ends.write_ends(disk.fd, disk.node, coming.withheld(), disk.sector_size)
            disk.progress.state = DiskState.FINISHED
    return streamed, done, oddities


def _changed(
    wanted: WholeDiskPlan,
    disk: HeldDisk,
    coming: Overlay,
    sectors: int,
    sink: EventSink,
    cancel: Cancellation,
) -> Changes | None:
    """Give the disk what it has besides the image; its table changes in memory only, or where nobody looks yet."""
    labels = Labels(opened=coming.opened, size=wanted.size, name=wanted.image.name, sector_size=disk.sector_size)
    done = changes_of(
        coming.read, wanted.place, wanted.wishes, image=wanted.image.name, is_drive=labels.is_drive, sectors=sectors
    )
    if done is None:
        return None
    _check_as_planned(wanted, done)
    if sectors != disk.sector_size:
        check_contents(coming.read, labels, done.images_own, wanted.place)
    if done.drive is not None and wanted.drive is not None:
        with phase(sink, Phase.CONFIG_DRIVE):
            coming.put([Extent(span.start, bytes(span.size)) for span in done.superseded])
            # To the end of its last sector: what the disk had there before is nobody's.
            data = wanted.drive.data
            coming.put([Extent(done.drive.start, data.ljust(align_up(len(data), disk.sector_size), b"\0"))])
    if done.grown is not None and done.added is not None:
        with phase(sink, Phase.GROW, f"partition {done.grown.number}"):
            # A superblock that ends there would be the grown partition's.
            (_, end) = edges(done.added, EDGE)
            coming.put([Extent(end.start, bytes(end.size))])
            _grow(disk, coming, labels, done.grown, cancel)
    coming.put(done.extents)
    return done


def _check_as_planned(wanted: WholeDiskPlan, done: Changes) -> None:
    """Check that an image that could be read beforehand has led to the same partitions again."""
    planned = wanted.changes
    if planned is not None and raw_file(wanted.image) is not None and planned.partitions != done.partitions:
        reason = "its partitions would be others than planned"
        raise DeviceFailed(device=wanted.device, action="reading the image back from", reason=reason)


def _grow(disk: HeldDisk, coming: Overlay, labels: Labels, part: FoundPartition, cancel: Cancellation) -> None:
    """Let the kernel know one partition, larger than the image had it, for as long as its file system grows."""
    span = ByteRange(part.start, part.end)
    coming.release(span)
    coming.flush()
    filesystem = labels.file_system(part)
    partition_nodes.add(disk.fd, disk.block, part.number, span)
    node = partition_nodes.wait_for(disk.block, [(part.number, span)], timeout=_NODE_TIMEOUT)[part.number]
    with partition_nodes.kept(disk.block, [node]):
        growing.grow(node, filesystem, cancel=cancel)
    # Before anything of the disk is read again: the node has pages of its own.
    partition_nodes.remove_all(disk.fd, disk.block)
    coming.flush()


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


def _check_whole(wanted: WholeDiskPlan, coming: Overlay, image_size: int, sector_size: int) -> _Oddities:
    """Check that the image goes on as far as its table says; return what else is wrong with it.

    If it was cut, and may be, that is all there is to say: what its table says of an end that is missing isn't new.
    """

    def table(size: int) -> FoundTable | None:
        return read_table(coming.read, device=wanted.image.name, disk_size=size, sector_size=sector_size)

    coming_table = table(wanted.size)
    is_promised = any(slot.type_id == PROTECTIVE for slot in slots_of(coming.read(0, RECORD_SIZE)) or ())
    if is_promised and coming_table is not None and not coming_table.disk_id:
        # Nobody would find a partition, and the disk would be called finished.
        raise ImageDamaged(image=wanted.image.name, reason="; ".join(coming_table.problems), offset=0)
    missing = tuple(cut_off(coming_table, image_size))
    if missing and not wanted.may_be_cut:
        raise ImageDamaged(image=wanted.image.name, reason="; ".join(missing), offset=image_size)
    if missing:
        return _Oddities(cut=missing)
    # By the image's own size: on a larger disk its backup GPT can't be where it should.
    found = table(image_size)
    return _Oddities(of_table=found.problems if found else ())


def _contents(disk: HeldDisk, size: int, table: FoundTable | None) -> Mapping[int, Signature]:
    """Return what each partition holds, of those that hold one thing."""
    labels = Labels(opened=opened_as(disk.fd), size=size, name=disk.path, sector_size=disk.sector_size)
    found = {part.number: labels.signatures(part) for part in (table.partitions if table else ())}
    return {number: held[0] for number, held in found.items() if len(held) == 1}


def _told(disk: HeldDisk, table: FoundTable | None) -> tuple[Mapping[int, str], tuple[str, ...]]:
    """Tell the kernel of the disk's partitions, which not every kernel can read from the table itself."""
    if table is None:
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
