"""Paths that a caller gives for an ISO's tree."""

from __future__ import annotations

import pytest

from libironic_disk.errors import BootIsoRefused
from libironic_disk.pure.bootisos import paths


@pytest.mark.parametrize("path", ["/a", "/a/b.c", "/ü/ñ ame", "/" + "x" * 255, "/..a/b.."])
def test_plain_paths_are_taken_with_a_slash_or_without(path: str) -> None:
    assert paths.checked(path, iso="x.iso") == paths.checked(path[1:], iso="x.iso") == path


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "..",
            "/..",
            "/a/../b",
            "../a",
            "/a/..",
            "/a/./b",
            "/a//b",
            "//a",
            "/a/",
            "/a\0b",
            "/a\nb",
            "/\ud800",
        ),
        *("/" + "x" * 256, "/" + "é" * 128, "/" + "y/" * 600 + "z"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(BootIsoRefused, match=r"x\.iso"):
        paths.checked(path, iso="x.iso")


@pytest.mark.parametrize("twice", [("/a", "a"), ("/a", "/a/b"), ("a/b/c", "/a")])
def test_one_path_has_one_meaning(twice: tuple[str, str]) -> None:
    with pytest.raises(BootIsoRefused):
        paths.checked_files(dict.fromkeys(twice, b""), iso="x.iso")


def test_parents_are_the_nearest_first() -> None:
    assert list(paths.parents("/a/b/c")) == ["/a/b", "/a"]
    assert list(paths.parents("/a")) == []
