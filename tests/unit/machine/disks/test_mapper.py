"""Device mapper's own words, where the host's kernel has none: sysfs as the kernel would lay it out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libironic_disk.machine import process
from libironic_disk.machine.disks import mapper
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB

DEVNO = os.makedev(253, 4)


def device(folder: Path, uuid: str, name: str = "mpatha") -> Path:
    (folder / "dm").mkdir()
    (folder / "dm/uuid").write_text(f"{uuid}\n")
    (folder / "dm/name").write_text(f"{name}\n")
    return folder


@pytest.mark.parametrize(
    ("uuid", "found"),
    [
        ("part1-mpath-3600", (1, "mpath-3600")),
        ("part12-devnode_253:4_Wh5pYvM", (12, "devnode_253:4_Wh5pYvM")),
        ("part2-part1-mpath-3600", (2, "part1-mpath-3600")),
        ("mpath-3600", None),
        ("part0-mpath-3600", None),
        ("part-mpath-3600", None),
        ("part1-", None),
        ("LVM-part1-x", None),
        ("", None),
    ],
)
def test_a_partition_is_what_its_uuid_says(tmp_path: Path, uuid: str, found: tuple[int, str] | None) -> None:
    assert mapper.partition_of(device(tmp_path, uuid)) == found


def test_what_is_no_mapping_is_no_partition(tmp_path: Path) -> None:
    assert not mapper.is_mapping(tmp_path)
    assert mapper.partition_of(tmp_path) is None


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("0 2048 linear 253:0 4096\n", (os.makedev(253, 0), 2 * MIB)),
        ("0 2048 linear 253:0 4096\n2048 8 linear 253:0 0\n", None),
        ("0 2048 crypt aes-xts-plain64 :64:logon:key 0 8:1 4096\n", None),
        ("", None),
    ],
)
def test_only_one_linear_part_is_an_origin(
    monkeypatch: pytest.MonkeyPatch, table: str, found: tuple[int, int] | None
) -> None:
    def run(*argv: str, timeout: float) -> process.Completed:
        assert argv == ("dmsetup", "table", "--major", "253", "--minor", "4")
        return process.Completed(argv=argv, exit_code=0, stdout=table.encode(), stderr="")

    monkeypatch.setattr(process, "run", run)
    assert mapper.origin(DEVNO) == found


@pytest.mark.parametrize(("uuid", "wanted"), [("mpath-3600", "mpath-3600"), ("", "devnode_253:4_Wh5pYvM")])
def test_a_partition_is_made_as_kpartx_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uuid: str, wanted: str
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*argv: str, timeout: float) -> process.Completed:
        ran.append(argv)
        return process.Completed(argv=argv, exit_code=0, stdout=b"", stderr="")

    monkeypatch.setattr(process, "run", run)
    mapper.add_partition(device(tmp_path, uuid), DEVNO, 3, ByteRange(MIB, 5 * MIB))
    table = "0 8192 linear 253:4 2048"
    assert ran == [("dmsetup", "create", "mpatha-part3", "--uuid", f"part3-{wanted}", "--table", table)]
