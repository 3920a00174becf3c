"""Telling the firmware of this machine which loaders a written image carries."""

from __future__ import annotations

from libironic_disk.machine.boot import efi_entries, image_loaders
from libironic_disk.machine.disks import sysfs
from libironic_disk.pure.roles import Architecture
from libironic_disk.pure.wholedisks.roots import is_esp
from libironic_disk.wholedisk.written import WholeDiskWritten


def tell_firmware(written: WholeDiskWritten, architecture: Architecture, *, label: str) -> tuple[str, ...]:
    """Give the firmware of this machine boot entries for the loaders on an image's EFI system partition.

    They are those that the image's own CSV files name (shim's README.fallback), each under the label that it has there;
    without any, the one at the removable path. A disk that is here only to be prepared for another machine gets none: a
    plain file, a loop device, one on USB. Nothing that goes wrong is an error: an entry is a convenience.

    Args:
        written: what :func:`~libironic_disk.wholedisk.apply` returned.
        architecture: of this machine.
        label: what the firmware's menu shows for the removable path.

    Returns:
        What people should know: what is odd about the image's loaders, which entry couldn't be made and why, and what
        the firmware starts instead.
    """
    table = written.table
    part = next((each for each in table.partitions if is_esp(table, each)), None) if table is not None else None
    node = written.nodes.get(part.number) if part is not None else None
    if part is None or node is None or sysfs.is_lent(written.device) or not efi_entries.available():
        return ()
    found = image_loaders.find(node, architecture)
    done = efi_entries.register_loaders(found, disk=written.device, number=part.number, partuuid=part.uuid, label=label)
    return (*found.problems, *(warning for each in done for warning in each.warnings))
