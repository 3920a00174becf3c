"""What is built upon some disks, from sysfs: found by what a device says of itself, never by the shape of its name.

Device mapper's UUIDs begin with what made the device (``LVM-``, ``mpath-``, ``CRYPT-``); an array has a directory
``md`` (Documentation/admin-guide/md.rst of the kernel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from libironic_disk.machine.disks import observing, sysfs, users
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.volumes.facts import Holder, HolderKind

_KINDS: Final = {
    sysfs.LVM: HolderKind.VOLUME,
    sysfs.MULTIPATH: HolderKind.MULTIPATH,
    "CRYPT": HolderKind.CRYPT,
}


def holders(disks: Sequence[BlockNode]) -> tuple[Holder, ...]:
    """Return every device that is built upon some disks, each before what it is built upon.

    Raises:
        DeviceFailed: one of them can't be read.
    """
    ours = {disk.devno for disk in disks}
    return tuple(_holder(block, ours) for block in running(disks))


def running(disks: Sequence[BlockNode]) -> tuple[BlockNode, ...]:
    """Return the same without a look at what is on them."""
    found: dict[int, BlockNode] = {}
    for disk in disks:
        blocks = sysfs.with_partitions(disk)
        # The partitions of a mapped disk are built upon it as well.
        own = {block.devno for block in blocks}
        for block in blocks:
            for holder in _above(block):
                if holder.devno not in own:
                    found.setdefault(holder.devno, holder)
    return tuple(found.values())


def _above(block: BlockNode) -> Iterator[BlockNode]:
    """Yield what is built upon a device, the uppermost first."""
    for name in sysfs.holders(block):
        holder = sysfs.named(name)
        if holder is not None:
            for part in sysfs.with_partitions(holder):
                yield from _above(part)
            yield holder


def foreign(block: BlockNode, ours: set[int]) -> tuple[str, ...]:
    """Return the nodes, at the very bottom of what a device is built upon, that are on none of our disks."""
    if (disk := sysfs.disk_of(block)).devno in ours:
        return ()
    lower = [each for part in (block, disk) for each in sysfs.beneath(part)]
    if not lower:
        return (block.node,)
    return tuple(dict.fromkeys(node for each in lower for node in foreign(each, ours)))


def kind_of(block: BlockNode) -> tuple[HolderKind, str]:
    """Return what a device is, and the name that its kind calls it."""
    found = sysfs.mapping(block.directory)
    if found is None:
        is_array = (block.directory / "md").is_dir()
        return (HolderKind.ARRAY if is_array else HolderKind.OTHER), block.name
    maker, name = found
    return _KINDS.get(maker, HolderKind.OTHER), name


def lost(array: BlockNode) -> str | None:
    """Return, in words, what a mirror has lost: empty if nothing, None of one that doesn't run or is no mirror.

    Who writes hears nothing of a member that can't: the kernel goes on without it, or without some of its sectors, of
    which it keeps a list (``Documentation/admin-guide/md.rst``: ``degraded``, ``rdNN/bad_blocks``).

    Raises:
        DeviceFailed: the kernel doesn't say.
    """
    slots = sysfs.word(array, "md/raid_disks")
    listed = any(
        sysfs.word(array, f"md/rd{slot}/{kind}")
        for slot in range(int(slots) if slots.isdecimal() else 0)
        for kind in ("bad_blocks", "unacknowledged_bad_blocks")
    )
    # The last of the looks: a member whose list has gone meanwhile is one that is missing now.
    missing = sysfs.word(array, "md/degraded")
    if not missing.isdecimal():
        return None
    if int(missing):
        return f"{missing} of its members"
    return "sectors of a member" if listed else ""


def _holder(block: BlockNode, ours: set[int]) -> Holder:
    kind, name = kind_of(block)
    return Holder(
        node=block.node,
        name=name,
        kind=kind,
        upon=tuple(each.node for each in sysfs.beneath(block)),
        foreign=foreign(block, ours),
        users=tuple(dict.fromkeys(users.uses(sysfs.with_partitions(block)))),
        signatures=observing.signatures_on(block.node),
    )
