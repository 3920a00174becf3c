"""The walk must answer as the kernel's RESOLVE_IN_ROOT does, on trees full of links."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from libironic_disk.machine.trees.rootfs import open_in_root
from libironic_disk.machine.trees.treewalk import open_walking

NAMES = st.sampled_from(["a", "b", "c"])
PARTS = NAMES | st.sampled_from(["..", ".", ""])
PATHS = st.lists(PARTS, min_size=1, max_size=6).map("/".join).filter(bool)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.just("dir") | st.just("file") | PATHS.map(lambda path: f"->{path}"),
    max_size=8,
)
FLAGS = st.sampled_from([os.O_PATH, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, os.O_PATH | os.O_DIRECTORY])


def build(top: Path, tree: dict[str, str]) -> None:
    for name, kind in sorted(tree.items()):
        path = top / name
        if not path.parent.is_dir() or path.parent.resolve() != path.parent:
            continue
        if kind == "dir":
            path.mkdir()
        elif kind == "file":
            path.touch()
        else:
            path.symlink_to(kind[2:])


def outcome(opener: Callable[[int, str, int], int], root: int, path: str, flags: int) -> tuple[int, int]:
    try:
        descriptor = opener(root, path, flags)
    except OSError as error:
        return -1, error.errno or 0
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


@settings(max_examples=300, deadline=None)
@given(TREES, PATHS, FLAGS)
@example({"a": "->b", "b": "->a"}, "a/", os.O_PATH)
@example({"a": "file", "b": "->a/"}, "b", os.O_PATH)
@example({"a": "dir", "b": "->/a/../.."}, "b/a/..", os.O_RDONLY)
def test_answers_as_the_kernel_does(tree: dict[str, str], path: str, flags: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory).resolve() / "top"
        top.mkdir()
        build(top, tree)
        root = os.open(top, os.O_PATH)
        try:
            assert outcome(open_walking, root, path, flags) == outcome(open_in_root, root, path, flags)
        finally:
            os.close(root)
