"""A plan for several disks, for people: each disk as it is drawn alone, then what is built upon them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libironic_disk.pure.disks import drawing
from libironic_disk.pure.volumes.facts import Member
from libironic_disk.pure.volumes.planning import Contents, StoragePlan
from libironic_disk.units import in_words


def as_text(plan: StoragePlan, *, width: int = 100) -> str:
    """Return a plan as lines for a terminal of ``width`` columns: what is stopped, what will be, what will be lost."""
    return "\n".join(_lines(plan, width))


def _lines(plan: StoragePlan, width: int) -> Iterator[str]:
    for holder in plan.stops:
        inside = f", and erases {', '.join(found.kind for found in holder.signatures)}" if holder.signatures else ""
        yield f"stops {holder} on {', '.join(holder.upon)}{inside}"
    for disk in plan.disks:
        yield drawing.as_text(disk, width=width)
        yield ""
    for array in plan.arrays:
        whose = f", a member of {array.member_of}" if array.member_of else f": {_words(array.contents)}"
        yield f"array {array.name}, raid1, {in_words(array.size)} on {_members(array.members)}{whose}"
    for group in plan.groups:
        upon = [text for text in (_members(group.members), *group.arrays) if text]
        yield f"group {group.name}, {in_words(group.size)} on {', '.join(upon)}"
        for volume in group.volumes:
            yield f"  volume {volume.name}, {in_words(volume.size)}: {_words(volume.contents)}"
        free = group.size - sum(volume.size for volume in group.volumes)
        if free:
            yield f"  {in_words(free)} free"


def _members(members: Sequence[Member]) -> str:
    return ", ".join(f"partition {number} of {device}" for device, number in members)


def _words(contents: Contents) -> str:
    made = f"{contents.filesystem} {contents.label}".strip() if contents.filesystem else "left blank"
    where = f" at {contents.mount_point}" if contents.mount_point else ""
    return f"{contents.role}, {made}{where}"
