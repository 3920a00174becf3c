"""Several operating systems on one machine, from one description: planned, deployed, and switched between.

Each image is written to its volume, gets its fstab, and an entry in the menu of a GRUB that belongs to none of them,
on a small partition of its own. What boots next is chosen by :mod:`libironic_disk.switching`::

    request = MultibootRequest(description=multiboot.read(Path("provision.json").read_text()))
    wanted = plan(request)
    print(wanted)
    result = apply(wanted)
    bootinfo.write(result.info, "/tmp/boot-info.json")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libironic_disk import volumes
from libironic_disk.bootinfo import BootInfo
from libironic_disk.errors import DiskState
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.multiboot import filling, keeping
from libironic_disk.multiboot.planning import MultibootPlan, MultibootRequest
from libironic_disk.multiboot.planning import plan as plan
from libironic_disk.partitioner import LOCK_TIMEOUT
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.multiboot.bootinfo import of as boot_info_of
from libironic_disk.pure.multiboot.description import PartitionsPolicy
from libironic_disk.pure.multiboot.document import read as read
from libironic_disk.pure.roles import Role

__all__ = ["MultibootPlan", "MultibootRequest", "MultibootResult", "apply", "plan", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultibootResult:
    """A machine that boots any of its images.

    Attributes:
        info: for boot-info.json.
        multiboot: the node of the multiboot partition; empty where the disk is a plain file.
        nodes: of all volumes, by their places, such as ``disk 1 root`` and ``vg0/root``; none in a plain file.
        left_out: images without an entry in the menu, and why.
        dropped: lines of the images' own fstabs that are gone, each after the name of its image.
        warnings: what went otherwise than one would wish and doesn't keep the machine from booting.
    """

    info: BootInfo
    multiboot: str
    nodes: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def apply(
    wanted: MultibootPlan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> MultibootResult:
    """Do what was planned, in an order in which no disk boots before the last write.

    Raises:
        DiskError: any of them. Its ``disk`` says the worst state that a disk was left in.
    """
    switch = cancel or Cancellation()
    with volumes.stage(
        wanted.storage, sink=sink, cancel=switch, lock_timeout=lock_timeout, lock_path=lock_path
    ) as staged:
        disk = staged.disks[0]
        multiboot = disk.node_of(Role.MULTIBOOT)
        nodes = {placed: filling.node_of(staged, placed) for placed in wanted.arrangement.placed}
        kept = wanted.request.description.policy is PartitionsPolicy.VERIFY
        if kept:
            staged.say(DiskState.UNCHANGED)
            board = keeping.switchboard(multiboot, frozenset(wanted.images))
            # From here until its new menu no entry leads to what is being written.
            staged.say(DiskState.INCOMPLETE)
            keeping.hide(multiboot, board, frozenset(wanted.images))
            keeping.make_filesystems(wanted, nodes, sink, switch)
        else:
            volumes.make_filesystems(staged, sink=sink, cancel=switch)
        written = filling.write_images(wanted, nodes, sink, switch)
        dropped = tuple(filling.set_up(wanted, nodes, written))
        with phase(sink, Phase.BOOT_LOADER, "several systems"):
            menu, warnings = filling.menu_of(wanted, nodes, filling.multiboot_uuid(disk), written, switch)
            if kept:
                menu = keeping.show(multiboot, menu)
                staged.say(DiskState.FINISHED)
            else:
                head = filling.install(wanted, disk, menu, switch)
                staged.commit({disk.plan.device: head})
    # A plain file is a disk only while it is worked on.
    is_file = disk.plan.kind is DiskKind.PLAIN_FILE
    return MultibootResult(
        info=boot_info_of(menu),
        multiboot="" if is_file else multiboot,
        nodes={} if is_file else {placed.key: node for placed, node in nodes.items()},
        left_out=menu.left_out,
        dropped=dropped,
        warnings=(*wanted.request.description.notes, *warnings, *filling.tell_firmware(wanted)),
    )
