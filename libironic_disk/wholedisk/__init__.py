"""A whole-disk image on a disk: its own partition table, its own boot loader, whatever systems it has.

Two functions, after :func:`libironic_disk.images.inspect` and :func:`libironic_disk.partitioner.observe`::

    wanted = plan(image, facts)            # touches nothing, refuses what can't work
    print(wanted)
    written = apply(wanted)                # the disk boots with the last write, or not at all

The first and the last MiB of the disk are zeros while the image is written. What the image has there is kept in memory
until all else is on the disk and is known to be right, and its very first sector comes last.

On a larger disk the backup copy of a GPT goes to that disk's end. A config drive gets a partition, or the one that the
image has for it, and on request the last partition and its file system grow: all before the disk has a table, so that
the image's system never sees it otherwise.
"""

from libironic_disk.wholedisk.planning import WholeDiskPlan as WholeDiskPlan
from libironic_disk.wholedisk.planning import plan as plan
from libironic_disk.wholedisk.registering import tell_firmware as tell_firmware
from libironic_disk.wholedisk.writing import apply as apply
from libironic_disk.wholedisk.written import WholeDiskWritten as WholeDiskWritten

__all__ = ["WholeDiskPlan", "WholeDiskWritten", "apply", "plan", "tell_firmware"]
