"""One seed made: a deployment, what it met, switches, another deployment; each judged by what is there afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from libironic_disk import switching
from libironic_disk.deploy import DeployPlan
from libironic_disk.errors import DiskError, DiskState, SwitchRefused
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.multiboot import MultibootPlan
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.roles import Role
from libironic_disk.units import MIB
from tests.soak import asking
from tests.soak.choosing import Case, Chosen, Kind, Met, Switch
from tests.soak.images import SYSTEM, Images
from tests.support import deployments, leaks, oracles, rooted_images, wholedisks
from tests.support.deployments import Planned
from tests.support.disks import LoopDisk, attach
from tests.support.faults import holdings, scenes, worker
from tests.support.faults.work import Scene
from tests.support.faults.worker import Ended
from tests.support.image_sources import STREAMS, offered
from tests.support.webserver import WebServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a seed is made with: a blank disk, images, a server, and a folder of temporary files."""

    disk: LoopDisk
    images: Images
    server: WebServer
    scene: Scene


@contextmanager
def bench(sector_size: int, images: Images, server: WebServer) -> Iterator[Bench]:
    """Give a disk; check at the end that it isn't used any more."""
    with scenes.folder() as folder:
        temporary = folder / "tmp"
        temporary.mkdir()
        file = folder / "disk.img"
        file.touch()
        os.truncate(file, deployments.DISK_SIZE)
        with attach(file, sector_size) as disk:
            scene = Scene(nodes=(disk.node,), temporary=temporary)
            yield Bench(disk=disk, images=images, server=server, scene=scene)
            held = [each for each in leaks.on_disks(folder) if each != f"{disk.node} is attached"]
            assert not held, f"the disk is still used: {held}"


def make(case: Case, images: Images, server: WebServer) -> str:
    """Make all of a case and return in words what came of it.

    Raises:
        AssertionError: something isn't as it should be.
        DiskError: what was asked for is refused, and nothing of it should be.
        TimeoutError: something hangs.
    """
    with bench(case.sector_size, images, server) as at:
        in_switch = case.fault is not None and case.fault.in_switch
        came = _deployed(case.first, at, None if in_switch else case.fault)
        if came == "done" and case.switches:
            came += f", {_switched(case, at)}"
        # What a process that was killed left there is nobody's by now.
        for left in at.scene.temporary.iterdir():
            assert case.fault is not None
            assert case.fault.fault.kills, f"left in the folder of temporary files: {left}"
            oracles.output("rm", "-r", str(left))
        again = case.again
        if again.keeps_ephemeral and came != "done":
            again = replace(again, keeps_ephemeral=False)
        return f"{came}; then {_deployed(again, at, None)}"


def _deployed(chosen: Chosen, at: Bench, met: Met | None) -> str:
    raw = at.images.raw(chosen, at.disk.sector_size)
    file = at.images.file(chosen, at.disk.sector_size)
    wanted = asking.plan(chosen, at.disk.node, raw)
    before, kept = at.disk.digest(), _kept(wanted, at.disk)
    with ExitStack() as here:
        # A stream is the worker's own: with another's the end of a pipe would never be seen.
        is_stream = chosen.way in STREAMS
        ours = None if is_stream else here.enter_context(offered(chosen.way, file, at.server))

        def call(sink: EventSink, cancel: Cancellation) -> object:
            os.environ["TMPDIR"] = tempfile.tempdir = str(at.scene.temporary)
            with ExitStack() as there:
                source = there.enter_context(offered(chosen.way, file, at.server)) if ours is None else ours
                deployments.apply(asking.plan(chosen, at.disk.node, source), sink=sink, cancel=cancel)
            return None

        ended = _ended(call, at, met)
    is_whole = partial(_judge, chosen, wanted, at, raw, kept)
    if ended.signal:
        return f"killed: {_state(at.disk, before, is_whole)}"
    if ended.error is None:
        is_whole()
        return "done"
    error = ended.error
    assert met is not None, ended.trace
    assert isinstance(error, DiskError), f"an error that nobody documents:\n{ended.trace}"
    assert met.fault.is_right(error), f"not the first error:\n{ended.trace}"
    found = _state(at.disk, before, is_whole)
    assert error.disk is found, f"it says {error.disk}, and the disk is {found}:\n{ended.trace}"
    return f"{type(error).__name__}: {found}"


def _ended(call: worker.Work, at: Bench, met: Met | None) -> Ended:
    """Make a call in a process of its own; check that nothing of it is left but what is to be judged."""
    if met is None:
        ended = worker.run(call)
    else:
        put = met.fault.put(at.scene, met.step)
        ended = worker.run(call, inside=put.inside, held=put.held)
    assert not ended.leaked, f"held by the process: {ended.leaked}"
    assert not ended.orphans, f"these outlived the call: {ended.orphans}"
    if ended.signal:
        assert met is not None, f"killed by signal {ended.signal}"
        assert met.fault.kills, f"killed by signal {ended.signal}"
    else:
        assert not holdings.files(at.scene.temporary), "left in the folder of temporary files"
    return ended


def _state(disk: LoopDisk, before: str, is_whole: Callable[[], None]) -> DiskState:
    """Return what a disk is: as it was, all of what was asked for, or nothing that boots."""
    if disk.digest() == before:
        return DiskState.UNCHANGED
    for path in (Path(disk.node), disk.file):
        if wholedisks.opinions(path, sector_size=disk.sector_size):
            is_whole()
            return DiskState.FINISHED
    with disk.file.open("rb") as file:
        assert not any(file.read(MIB)), "no table, and yet something in the first MiB"
    return DiskState.UNBOOTABLE


def _table(wanted: Planned) -> Plan | None:
    match wanted:
        case DeployPlan(disk=Plan() as table):
            return table
        case MultibootPlan():
            return wanted.storage.disks[0]
        case Plan():
            return wanted
    return None


def _kept(wanted: Planned, disk: LoopDisk) -> dict[str, dict[str, str]]:
    """Return what lies on the partitions that are to be kept, by their nodes."""
    table = _table(wanted)
    nodes = [f"{disk.node}p{part.number}" for part in table.partitions if part.keep] if table else []
    return {node: oracles.blkid(node) for node in nodes}


def _judge(chosen: Chosen, wanted: Planned, at: Bench, raw: Path, kept: dict[str, dict[str, str]]) -> None:
    oracles.output("partx", "--update", at.disk.node, ok=(0, 1))
    for node, held in kept.items():
        assert oracles.blkid(node) == held, f"{node} was to be kept"
        oracles.check_filesystem(held["TYPE"], node)
    match chosen.kind:
        case Kind.WHOLE if not chosen.drive:
            wholedisks.assert_has_image(at.disk, raw)
        case Kind.WHOLE | Kind.GROWN:
            _judge_changed(chosen, at.disk, raw)
        case Kind.SYSTEMS:
            _judge_systems(chosen, wanted, at.disk)
        case _:
            deployments.judge(wanted, at.disk, raw, SYSTEM)


def _judge_systems(chosen: Chosen, wanted: Planned, disk: LoopDisk) -> None:
    table = _table(wanted)
    assert table is not None
    deployments.judge_table(table, disk)
    roots = [f"{disk.node}p{part.number}" for part in table.partitions if part.name.startswith("root-")]
    assert len(roots) == chosen.systems
    for root in roots:
        deployments.judge_root(root, SYSTEM)
    assert switching.verify(_multiboot(wanted, disk), roots) == ()


def _judge_changed(chosen: Chosen, disk: LoopDisk, raw: Path) -> None:
    """Assert that a whole-disk image is there with a config drive behind it, or grown over the rest of the disk."""
    seen = oracles.sfdisk(disk.node)
    assert seen.label == chosen.label
    if chosen.label == "gpt":
        oracles.check_gpt(disk.node)
    labels = [oracles.blkid(f"{disk.node}p{at + 1}").get("LABEL", "").lower() for at in range(len(seen.rows))]
    assert labels.count("config-2") == chosen.drive
    first = f"{disk.node}p1"
    if chosen.kind is Kind.GROWN:
        oracles.check_filesystem("ext4", first)
        assert rooted_images.bytes_of(FileSystem.EXT4, first) > deployments.DISK_SIZE * 0.8
        assert oracles.output("debugfs", "-R", "cat /file", first) == "kept"
    else:
        with raw.open("rb") as image, Path(disk.node).open("rb") as node:
            image.seek(MIB)
            node.seek(MIB)
            size = raw.stat().st_size - 2 * MIB
            same = image.read(size) == node.read(size)
        assert same, "the image's partitions are others"


def _multiboot(wanted: Planned, disk: LoopDisk) -> str:
    table = _table(wanted)
    part = table.partition(Role.MULTIBOOT) if table else None
    assert part is not None
    return f"{disk.node}p{part.number}"


def _switched(case: Case, at: Bench) -> str:
    """Make the switches of a case, the fault's in the last of them, and check each by GRUB's own programs."""
    raw = at.images.raw(case.first, at.disk.sector_size)
    # Where the partitions are is no matter of what is on the disk now.
    node = _multiboot(asking.plan(case.first, at.disk.node, raw), at.disk)
    ids = [entry.id for entry in switching.list_entries(node)]
    for at_switch, (switch, number) in enumerate(case.switches):
        key = ids[number % len(ids)]
        before = _block(node)
        met = case.fault if case.fault and case.fault.in_switch and at_switch == len(case.switches) - 1 else None

        def call(sink: EventSink, cancel: Cancellation, switch: Switch = switch, key: str = key) -> object:
            with suppress(SwitchRefused):
                _throw(node, switch, key)
                return True
            return False

        ended = _ended(call, at, met)
        assert ended.error is None, ended.trace
        oracles.check_filesystem("ext4", node)
        after = _block(node)
        if ended.signal:
            assert after in (before, _expected(before, switch, key) or after), "neither the old choice nor the new one"
            assert [entry.id for entry in switching.list_entries(node)] == ids
            return "killed in a switch"
        expected = _expected(before, switch, key) if ended.value else before
        assert expected is None or after == expected, f"{switch} of {key}: {before} became {after}"
    return "switched"


def _throw(node: str, switch: Switch, key: str) -> None:
    match switch:
        case Switch.DEFAULT:
            switching.set_default(node, key)
        case Switch.ONCE:
            switching.boot_once(node, key)
        case Switch.TRY:
            switching.try_boot(node, key)
        case Switch.CONFIRM:
            switching.confirm(node, command_line=Path("/none"))
        case Switch.ROLLBACK:
            switching.rollback(node)
        case Switch.REFRESH:
            switching.refresh(node, [])


def _block(node: str) -> dict[str, str]:
    """Return what GRUB's own programs read of its environment block."""
    block = oracles.grub_cat(node, "/boot/grub/grubenv")
    with tempfile.NamedTemporaryFile() as file:
        file.write(block)
        file.flush()
        listed = oracles.output("grub-editenv", file.name, "list")
    return dict(line.split("=", 1) for line in listed.splitlines() if line.split("=", 1)[1].strip())


def _expected(before: dict[str, str], switch: Switch, key: str) -> dict[str, str] | None:
    """Return what the block says after a switch that isn't refused; None where that isn't so simple."""
    match switch:
        case Switch.DEFAULT:
            stays = {"menu_generation", "trial_failed", "saved_entry"}
            return {name: value for name, value in before.items() if name in stays} | {"saved_entry": key}
        case Switch.ONCE:
            return before | {"next_entry": key}
    return None
