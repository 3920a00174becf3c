"""Who uses a disk, where the host's kernel can't show it: sysfs as the kernel would lay it out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceBusy
from libironic_disk.machine.disks import claims
from libironic_disk.machine.disks.sysfs import BlockNode


def test_a_holder_is_named_before_the_device_is_opened(tmp_path: Path) -> None:
    for name in ("dm-3", "md127"):
        (tmp_path / "holders" / name).mkdir(parents=True)
    disk = BlockNode(node="/nonexistent/sda", devno=os.makedev(1000, 7), directory=tmp_path)
    with pytest.raises(DeviceBusy) as busy:
        claims.check_unused(disk)
    assert busy.value.users == ("/nonexistent/sda is held by dm-3", "/nonexistent/sda is held by md127")
    assert str(busy.value) == (
        "/nonexistent/sda is in use: /nonexistent/sda is held by dm-3; /nonexistent/sda is held by md127"
    )
