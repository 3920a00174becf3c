"""Before the first write to several disks: proof that they are as they were planned for, and unused.

Then what runs upon them goes, where the plan says so, when none of the disks starts anything any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from libironic_disk.errors import DeviceBusy, DiskError, DiskState, PlanOutdated, add_aftermath
from libironic_disk.events import Cancellation, EventSink, Phase, phase
from libironic_disk.machine.disks import claims, partition_nodes
from libironic_disk.machine.disks.holding import HeldDisk
from libironic_disk.machine.disks.staging import check_writable, disarm
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.volumes import finding, making, naming, stacking
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.volumes import planner
from libironic_disk.pure.volumes.facts import Holder
from libironic_disk.pure.volumes.planning import StoragePlan


def check(
    wanted: StoragePlan, disks: Sequence[tuple[Plan, HeldDisk]], kept: Collection[str], cancel: Cancellation
) -> None:
    """Prove that nothing changed since the plan was made: neither the disks, nor what runs upon them, nor names.

    ``kept`` are the nodes of an empty plan's arrays and volumes, which run already.

    Raises:
        PlanOutdated: these aren't the disks that were planned for, or something else runs upon them.
        DeviceBusy: somebody uses what runs upon them.
        NameTaken, LayoutInvalid: something has the name of a group by now.
        DeviceError, RequestError: what refuses one of the disks.
        Cancelled: the caller wished so.
    """
    blocks = [disk.block for _, disk in disks]
    for each, disk in disks:
        disk.check_same(each.fingerprint)
        check_writable(each, disk.block)
    if wanted.is_empty:
        check_kept(wanted.name, blocks, kept)
    else:
        check_running(wanted.stops, blocks, wanted.name)
        if wanted.groups:
            planner.check_names(wanted.groups, finding.group_names(blocks))
            naming.check_names(wanted.groups, wanted.stops)
    cancel.check("checking the disks")


def check_kept(name: str, disks: Sequence[BlockNode], nodes: Collection[str]) -> None:
    """Prove that nobody uses disks that stay as they are, or what runs upon them, which may be filled.

    Raises:
        DeviceBusy: somebody does, or something else than ``nodes`` runs there.
        DeviceError, ProgramError: it can't be found out.
    """
    holders = stacking.holders(disks)
    if others := tuple(holder.place for holder in holders if holder.node not in nodes):
        raise DeviceBusy(device=name, users=others)
    making.check_idle(holders, name)
    running = frozenset(block.name for block in stacking.running(disks))
    for disk in disks:
        claims.check_unused(disk, beside=running)


def check_running(seen: Sequence[Holder], disks: Sequence[BlockNode], name: str) -> None:
    """Prove that what was seen to run upon some disks still does, and nothing else.

    Raises:
        PlanOutdated: it doesn't, or something else does.
        DeviceBusy: one of them is mounted or swapped on by now.
    """
    now = stacking.holders(disks)
    if differences := tuple(_differences(seen, now)):
        raise PlanOutdated(device=name, differences=differences)
    before = {user for holder in seen for user in holder.users}
    if users := tuple(user for holder in now for user in holder.users if user not in before):
        raise DeviceBusy(device=name, users=users)


def _differences(seen: Sequence[Holder], now: Sequence[Holder]) -> Iterator[str]:
    before, found = ({holder.node: holder for holder in each} for each in (seen, now))
    for node, holder in before.items():
        if node not in found:
            yield f"{holder} ran upon it and doesn't any more"
        elif (other := found[node]).name != holder.name or other.kind is not holder.kind:
            yield f"{holder} ran upon it, and now {other} does"
        elif (other.upon, other.foreign) != (holder.upon, holder.foreign):
            yield f"{holder} was on {', '.join(holder.upon)}, and is on {', '.join(other.upon)} now"
        elif other.signatures != holder.signatures:
            yield f"something else is on {holder}"
    yield from (f"{holder} runs upon it now" for node, holder in found.items() if node not in before)


def take_apart(wanted: StoragePlan, disks: Sequence[HeldDisk], sink: EventSink) -> None:
    """Stop what the plan says, and prove that nobody else uses the disks, none of which starts anything any more.

    Raises:
        DeviceBusy: somebody uses them.
        DeviceFailed, ProgramError: one of them can't be written, or something can't be stopped.
    """
    if wanted.is_empty:
        return
    if not wanted.stops:
        for disk in disks:
            claims.check_unused(disk.block)
        if len(disks) > 1:
            # Before the first write, as a partition that stays open is found here.
            partition_nodes.remove_all_of([(disk.fd, disk.block) for disk in disks])
            disarm(disks)
            for disk in disks:
                disk.progress.state = DiskState.UNBOOTABLE
        return
    making.check_idle(wanted.stops, wanted.name)
    disarm(disks)
    for holder in wanted.stops:
        with phase(sink, Phase.WIPE, str(holder)):
            try:
                making.take_apart(holder)
            except DiskError as error:
                add_aftermath(
                    error, f"{holder} was being taken apart: the disks have their old tables, and boot nothing"
                )
                raise
    for disk in disks:
        claims.check_unused(disk.block)
