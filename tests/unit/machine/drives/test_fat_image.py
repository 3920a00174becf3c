"""FAT images as mtools, fsck.vfat and libblkid see them."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from libironic_disk.errors import ConfigDriveInvalid, ProgramFailed, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.drives import fat_image
from libironic_disk.pure.drives import fat
from tests.support import configdrives as images

MIB = 1024 * 1024


@pytest.mark.parametrize("sector_size", [512, 1024, 2048, 4096])
@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"top": b""},
        {"UPPER.TXT": b"1", "ünïcödé 漢字/with space": b"2"},
        {"a/b/c/d/e/f/g": b"x" * 4096, "a/b/c/h": b"y" * 4097},
        {f"many/{number:04} of them": b"z" for number in range(500)},
        {f"{number:04} at the top": b"z" for number in range(400)},
        {"large": bytes(range(256)) * 4096 * 20},
    ],
    ids=["empty", "top", "names", "deep", "many", "top-many", "20MiB"],
)
def test_sound_in_other_eyes(tree: dict[str, bytes], sector_size: int) -> None:
    data = fat_image.make(tree, sector_size=sector_size, label="CONFIG-2")
    images.check_fat(data)
    assert images.fat_files(data) == tree
    facts = images.probed(data)
    assert (facts["TYPE"], facts["LABEL"], facts["BLOCK_SIZE"]) == ("vfat", "CONFIG-2", str(sector_size))
    assert len(data) % sector_size == 0
    content = sum(map(len, tree.values()))
    assert len(data) < max(content * 1.1, 0.1 * MIB) + 5000 * len(tree) + 0.2 * MIB


def test_both_sides_of_the_boundary_between_fat12_and_fat16() -> None:
    widths = set()
    for clusters in range(4058, 4076):
        data = fat_image.make({"file": bytes(clusters * 4096)}, sector_size=4096, label="CONFIG-2")
        found = fat.geometry(data)
        assert found is not None
        widths.add(found.width)
        assert f"FAT{found.width}" == images.probed(data)["VERSION"]
    assert widths == {12, 16}


def test_the_same_files_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = images.random_tree(random.Random(1))
    first = fat_image.make(tree, sector_size=4096, label="CONFIG-2")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert fat_image.make(dict(reversed(tree.items())), sector_size=4096, label="CONFIG-2") == first


@pytest.mark.parametrize(
    "name",
    ["a:b", "a*", "a?", "a|b", 'a"', "<a", "a\\b", "a\nb", "a.", "a ", "d /a", "a\x7f\x01", "NUL", "d/con"],
)
def test_names_that_fat_cant_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigDriveInvalid, match="FAT can't hold"):
        fat_image.make({name: b""}, sector_size=4096, label="CONFIG-2", tempdir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("a", "A"), ("d/x", "D/y"), ("d", "D/y")])
def test_names_that_differ_in_case_alone(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigDriveInvalid, match="case doesn't count"):
        fat_image.make(dict.fromkeys(names, b""), sector_size=4096, label="CONFIG-2")


@pytest.mark.parametrize("sector_size", [0, 520, 8192])
def test_sectors_that_fat_doesnt_have(sector_size: int) -> None:
    with pytest.raises(ConfigDriveInvalid, match=f"sectors of {sector_size} bytes"):
        fat_image.make({}, sector_size=sector_size, label="CONFIG-2")


@pytest.mark.parametrize("broken", ["mkfs.vfat", "mmd", "mcopy"])
def test_nothing_stays_behind_when_a_program_fails(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        if argv[0] == broken:
            raise ProgramFailed(argv=argv, stderr="no", exit_code=1)
        return really(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(ProgramFailed) as caught:
        fat_image.make({"a/b": b"secret"}, sector_size=4096, label="CONFIG-2", tempdir=tmp_path)
    assert caught.value.argv[0] == broken
    assert list(tmp_path.iterdir()) == []


def test_the_scratch_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    really = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())
        return really(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    fat_image.make({"a": b"secret"}, sector_size=4096, label="CONFIG-2", tempdir=tmp_path)
    assert modes == [0o700, 0o700]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ToolMissing, match="dosfstools"):
        fat_image.make({}, sector_size=4096, label="CONFIG-2")
    assert list(tmp_path.iterdir()) == []
