"""The initial RAM disks that the kernel lines of an ISO name."""

from __future__ import annotations

from collections.abc import Sequence

from libironic_disk.pure.bootisos.contents import Contents
from libironic_disk.pure.bootisos.model import BootConfig, Place
from libironic_disk.pure.bootisos.paths import absolute


def initrds_of(configs: Sequence[BootConfig], contents: Contents) -> tuple[list[Place], list[str]]:
    """Return the initial RAM disks to which files have to be added, and in words those that aren't there.

    Of a line with several it is the last one: loaders put them one behind the other, and the kernel unpacks them in
    this order.
    """
    found: dict[Place, None] = {}
    missing: dict[str, None] = {}
    for config in configs:
        for line in config.lines:
            if not line.initrds:
                continue
            place = _place(config, line.initrds[-1], contents)
            if place is not None:
                found[place] = None
            else:
                missing[f"{config.place} names the initial RAM disk {line.initrds[-1]}, which isn't there"] = None
    return list(found), list(missing)


def _place(config: BootConfig, path: str, contents: Contents) -> Place | None:
    for boot_image in dict.fromkeys((config.place.boot_image, None)):
        found = contents.found(Place(path=absolute(path, config.prefix), boot_image=boot_image))
        if found is not None:
            return found
    return None
