"""What a stranger's file system may and may not hold."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge
from libironic_disk.pure.drives.filetree import MOST_ENTRIES, MOST_LEVELS, Harvest, by_directory, checked_name


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../a", "/a", "a\0", "\0", "x" * 256, "ü" * 128, "\udcff"])
def test_names_refused(name: str) -> None:
    with pytest.raises(ConfigDriveInvalid):
        checked_name(name)


def test_an_error_never_shows_the_name() -> None:
    for name in ("../hunter2", "hunter2" * 100):
        with pytest.raises(ConfigDriveInvalid) as caught:
            checked_name(name)
        assert "hunter2" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("name", ["a", "...", "..a", "a?", "-rf", "x" * 255, "漢字"])
def test_names_allowed(name: str) -> None:
    assert checked_name(name) == name


def test_number_of_entries() -> None:
    harvest = Harvest(0)
    for number in range(MOST_ENTRIES):
        harvest.path("", str(number))
    with pytest.raises(ConfigDriveInvalid, match="more than 1024"):
        harvest.path("", "one more")


def test_depth() -> None:
    harvest, path = Harvest(0), ""
    for _ in range(MOST_LEVELS):
        path = harvest.path(path, "d")
    with pytest.raises(ConfigDriveInvalid, match="16 levels deep"):
        harvest.path(path, "d")


def test_a_name_twice() -> None:
    harvest = Harvest(0)
    assert (harvest.path("", "a"), harvest.path("b", "a")) == ("a", "b/a")
    with pytest.raises(ConfigDriveInvalid, match="same name"):
        harvest.path("", "a")


def test_bytes_together() -> None:
    harvest = Harvest(10)
    harvest.claim(4)
    harvest.claim(6)
    with pytest.raises(ConfigDriveTooLarge) as caught:
        harvest.claim(1)
    assert (caught.value.limit, caught.value.found) == (10, 11)


def test_by_directory() -> None:
    listing = by_directory({"b/c/d": b"", "a": b"", "b/a": b""})
    shown = [(str(place), [str(path) for path in paths]) for place, paths in listing.items()]
    assert shown == [(".", ["a", "b"]), ("b", ["b/a", "b/c"]), ("b/c", ["b/c/d"])]
    assert by_directory({}) == {PurePosixPath(): []}
