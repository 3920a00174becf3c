"""Which partition of a written image has its root file system: by its type, else by what is in it."""

from __future__ import annotations

from collections.abc import Mapping

from libironic_disk.errors import DiskError
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import osrelease
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.tables.model import FoundTable
from libironic_disk.pure.wholedisks.roots import declared_root, possible_roots


def root_of(
    table: FoundTable | None, contents: Mapping[int, Signature], nodes: Mapping[int, str]
) -> tuple[int | None, tuple[str, ...]]:
    """Return the number of the root's partition, and in words why there is none although some could be.

    Never raises: the disk is finished, and whoever has to know asks the image's maker.

    Args:
        table: of the disk.
        contents: what is in its partitions, by number.
        nodes: their devices, by number.
    """
    if table is None:
        return None, ()
    declared = declared_root(table)
    possible = possible_roots(table, contents)
    if declared is not None and declared in contents:
        return declared, ()
    if len(possible) <= 1:
        return next(iter(possible), None), ()
    try:
        found = [number for number in possible if _has_system(nodes[number], contents[number])]
    except (DiskError, KeyError) as error:
        return None, (f"which partition has the root file system can't be told: {error}",)
    if len(found) == 1:
        return found[0], ()
    several = " and ".join(map(str, found or possible))
    return None, (f"which partition has the root file system can't be told: it could be {several}",)


def _has_system(node: str, held: Signature) -> bool:
    with mounted(node, FileSystem(held.kind)) as directory:
        tree = RootDir(directory, tree=node)
        return any(tree.exists(path) for path in osrelease.PATHS)
