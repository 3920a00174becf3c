"""What is changed in an image before it boots: its fstab, its mount points, and UUIDs that it has no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from libironic_disk.errors import PathFailed, shown
from libironic_disk.machine.trees.rootfs import RootDir, is_refusal
from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.fstab import Line
from libironic_disk.pure.boot.references import replace_uuid
from libironic_disk.units import MIB

_FSTAB: Final = "/etc/fstab"
_LIMIT: Final = 4 * MIB
# For people: of lines that are gone.
_KEPT_OF_A_LINE: Final = 400
_KEPT_LINES: Final = 400
_WITH_UUIDS: Final = (
    _FSTAB,
    "/etc/crypttab",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/etc/initramfs-tools/conf.d/resume",
)
_MOST_ENTRIES: Final = 256


def write_fstab(tree: RootDir, lines: Sequence[Line], *, merge: bool, known: frozenset[str]) -> tuple[str, ...]:
    """Write the fstab of an image, make its mount points, and return the lines of its own that are gone, to be shown.

    An image without ``/etc`` is no system: nothing is written.

    Args:
        tree: the image's root.
        lines: for its volumes.
        merge: keep what the image's own fstab says beside them.
        known: the UUIDs and labels that exist on the machine, by which lines of the image's own are judged.

    Raises:
        PathFailed: a file or directory can't be written.
    """
    if not tree.exists("/etc"):
        return ()
    own = tree.read_file(_FSTAB, limit=_LIMIT).decode(errors="surrogateescape") if tree.exists(_FSTAB) else ""
    merged = fstab.merge(own, tuple(lines), keep=merge, known=known)
    tree.rewrite_file(_FSTAB, merged.text.encode(errors="surrogateescape"))
    for line in lines:
        if line.mount.startswith("/") and line.mount != "/":
            tree.make_dirs(line.mount)
    return tuple(shown(line)[:_KEPT_OF_A_LINE] for line in merged.dropped[:_KEPT_LINES])


def replace_uuids(tree: RootDir, changed: Mapping[str, str]) -> tuple[str, ...]:
    """Put new UUIDs in the place of old ones wherever an image's boot looks for them; return the files changed.

    Raises:
        PathFailed: a file can't be written.
    """
    if not changed:
        return ()
    return tuple(path for path in (*_WITH_UUIDS, *loader_entries(tree, "/boot")) if _replace_in(tree, path, changed))


def loader_entries(holder: RootDir, boot: str) -> tuple[str, ...]:
    """Return the paths of a boot loader's entries (Boot Loader Specification, type 1); of more than 256 the first ones.

    Args:
        holder: the file system that they are in.
        boot: the directory in it that is the system's ``/boot``; empty for its top.

    Raises:
        PathFailed: the kernel can't read the directory.
    """
    entries = f"{boot}/loader/entries"
    try:
        names = [name for name in holder.names(entries) if name.endswith(".conf")]
    except PathFailed as error:
        if is_refusal(error):
            raise
        # As a rule there are none.
        return ()
    return tuple(f"{entries}/{name}" for name in names[:_MOST_ENTRIES])


def _replace_in(tree: RootDir, path: str, changed: Mapping[str, str]) -> bool:
    if not tree.is_file(path):
        return False
    before = tree.read_file(path, limit=_LIMIT).decode(errors="surrogateescape")
    after = before
    for old, new in changed.items():
        after = replace_uuid(after, old, new)
    if after == before:
        return False
    tree.rewrite_file(path, after.encode(errors="surrogateescape"))
    return True
