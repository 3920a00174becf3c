"""Any files put into an image of any layout: every view of it has them, everything else is what it was.

What is there is asked of xorriso and isoinfo, what it looks like as a disk of sgdisk and sfdisk.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.isolayouts import ESP_IMAGE, INITRD, IsoLayout, Names
from libironic_disk.pure.iso.changing import IsoEdit, edited
from libironic_disk.pure.iso.image import read_image
from libironic_disk.pure.ropes import Range, Rope
from tests.support import isos
from tests.support.isos import Memory

SECTOR = 2048
ESP_TYPES = {"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "ef"}
VIEWS = {
    Names.ROCK_RIDGE: ("any", "ecma119"),
    Names.BOTH: ("any", "norock", "ecma119"),
    Names.JOLIET: ("any", "ecma119"),
    Names.PLAIN: ("any",),
}
"""Which trees an image has, in xorriso's words; the first is the one whose names count."""
BY_ISOINFO = {Names.ROCK_RIDGE: ("-R",), Names.BOTH: ("-R", "-J"), Names.JOLIET: ("-J",), Names.PLAIN: ()}

# New files have names that no directory has, and the other way round; both can be in directories that are there.
letters = st.from_regex(r"[a-z0-9_]{0,7}", fullmatch=True)
long_names = st.from_regex(r"[A-Za-z0-9_.+ -]{0,40}[a-z]", fullmatch=True)
parents = st.sampled_from(["", "/boot", "/boot/grub", "/pieces", "/isolinux", "/loader/entries"])
sizes = st.one_of(
    *(st.just(0), st.integers(1, SECTOR - 1), st.sampled_from([SECTOR - 1, SECTOR, SECTOR + 1, 32 * SECTOR])),
    *(st.integers(0, 20_000), st.integers(1_000_000, 3_000_000)),
)
GROWN_BY = (-SECTOR, -1, 0, 1, 2, SECTOR)


@st.composite
def puts(draw: st.DrawFn, kind: IsoLayout, names: Names) -> dict[str, int]:
    """Sizes of files to put: new ones, in old and new directories, and others instead of those that are there."""
    short = names is Names.PLAIN
    name = letters if short else letters | long_names
    found: dict[str, int] = {}
    for number in range(draw(st.integers(0, 4))):
        above = "".join(f"/d{each}" for each in draw(st.lists(letters if short else name, max_size=3)))
        path = f"{draw(parents)}{above}/f{draw(name)}{number}.{draw(letters)[:3]}x"
        found[path] = draw(sizes)
    there = {path: len(data) for path, data in before(kind, names).files.items() if replaceable(path)}
    for path in draw(st.lists(st.sampled_from(sorted(there)), max_size=4, unique=True)):
        room = -(-there[path] // SECTOR) * SECTOR
        size = draw(st.one_of(sizes, st.sampled_from([max(0, room + more) for more in GROWN_BY])))
        # What boots can't be empty.
        found[path] = max(size, SECTOR) if path == ESP_IMAGE else size
    return found


def contents(sizes_by_path: Mapping[str, int]) -> dict[str, bytes]:
    return {path: Random(path).randbytes(size) for path, size in sizes_by_path.items()}


def replaceable(path: str) -> bool:
    """Neither the catalog nor what has in it where it is; and of hundreds of GRUB's modules only some."""
    loader = path.endswith(("isolinux.bin", "eltorito.img"))
    return path not in isos.CATALOGS | {"/boot.cat"} and not loader and "-pc/" not in path and "_64-" not in path


class Seen:
    """What programs say of an image.

    Args:
        path: the image.
        names: which names it has.
    """

    def __init__(self, path: Path, names: Names) -> None:
        self.data = path.read_bytes()
        self.trees = [named(isos.by_xorriso(path, "-read_fs", view), names) for view in VIEWS[names]]
        self.files = self.trees[0]
        self.problems = isos.table_problems(path)
        self.partitions = partitions(path)
        report = isos.report_of(path, "-report_el_torito", "plain").splitlines()
        self.boot_images = [line.split()[5:] for line in report if line.startswith("El Torito boot img")]
        self.boot_paths = [line.split()[5:] for line in report if line.startswith("El Torito img path")]

    def cut_out(self, part: Mapping[str, Any]) -> bytes:
        """Return what the kernel would show as a partition."""
        return self.data[part["start"] * 512 : (part["start"] + part["size"]) * 512]

    def boot_contents(self) -> list[bytes]:
        """Return what the firmware loads by the catalog."""
        spans = [(int(words[-1]) * SECTOR, int(words[-2]) * 512) for words in self.boot_images]
        return [self.data[at : at + size] for at, size in spans]


def named(tree: dict[str, bytes], names: Names) -> dict[str, bytes]:
    return {path.lower(): data for path, data in tree.items()} if names is Names.PLAIN else tree


def partitions(path: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["sfdisk", "--json", path], capture_output=True, check=False)
    if done.returncode:
        return []
    table: dict[str, Any] = json.loads(done.stdout)["partitiontable"]
    found: list[dict[str, Any]] = table.get("partitions", [])
    return [{**part, "node": ""} for part in found]


@cache
def before(kind: IsoLayout, names: Names) -> Seen:
    with TemporaryDirectory() as folder:
        path = Path(folder, "image.iso")
        path.write_bytes(isos.layout(kind, names).data)
        return Seen(path, names)


def views_of_partitions(seen: Seen, names: Names) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield the files of each partition that can be mounted as an ISO 9660 file system of its own, by its place."""
    for at, part in enumerate(seen.partitions):
        inside = seen.cut_out(part)
        if inside[16 * SECTOR + 1 : 16 * SECTOR + 6] == b"CD001":
            with TemporaryDirectory() as folder:
                path = Path(folder, "partition.iso")
                path.write_bytes(inside)
                yield at, named(isos.by_xorriso(path), names)


def digests(tree: Mapping[str, bytes]) -> Counter[str]:
    return Counter(hashlib.sha256(data).hexdigest() for data in tree.values())


@settings(max_examples=30)
@given(layout=st.sampled_from(isos.LAYOUTS), data=st.data())
def test_any_files_in_any_layout(layout: tuple[IsoLayout, Names], data: st.DataObject) -> None:
    kind, names = layout
    put = contents(data.draw(puts(kind, names)))
    base, old = isos.layout(kind, names), before(kind, names)
    rope = edited(read_image(base), base, IsoEdit(files={path: Rope.of(each) for path, each in put.items()}))
    changed = isos.rendered(rope, base)
    if not put:
        assert rope == Rope.of(Range(0, base.size))
    with TemporaryDirectory() as folder:
        path = Path(folder, "image.iso")
        path.write_bytes(changed.data)
        new = Seen(path, names)
        check_files(new, old, put)
        assert not isos.differences(isos.contents(changed), new.files)
        check_isoinfo(path, names, put)
    check_disk(new, old, put)
    check_partitions(new, old, names)
    check_boot_images(new, old, put)


def check_files(new: Seen, old: Seen, put: Mapping[str, bytes]) -> None:
    """What was put is there in all trees, and nothing else is different."""
    wanted = {**old.files, **put}
    assert not set(isos.differences(new.files, wanted)) - isos.CATALOGS
    for tree in new.trees[1:]:
        assert digests(tree) == digests(new.files)
    # xorriso's second tree has names of its own only where it is Joliet's.
    if len(new.trees) == len(VIEWS[Names.BOTH]):
        assert not isos.differences(new.trees[1], new.files)


def check_isoinfo(path: Path, names: Names, put: Mapping[str, bytes]) -> None:
    """A second reader finds them as well."""
    for view in BY_ISOINFO[names]:
        listed = subprocess.run(["isoinfo", view, "-f", "-i", path], check=True, capture_output=True, text=True).stdout
        found = {line.removesuffix(";1"): line for line in listed.splitlines()}
        for file, content in list(put.items())[:3]:
            assert isos.by_isoinfo(path, view, found[file]) == content, (view, file)


def check_disk(new: Seen, old: Seen, put: Mapping[str, bytes]) -> None:
    """The tables are as good as they were, and the same partitions are in them."""
    assert new.problems == old.problems
    places = {"start", "size"}
    assert [{key: part[key] for key in part.keys() - places} for part in new.partitions] == [
        {key: part[key] for key in part.keys() - places} for part in old.partitions
    ]
    for now, was in zip(new.partitions, old.partitions, strict=True):
        assert (now["start"] + now["size"]) * 512 <= len(new.data)
        if was["type"] in ESP_TYPES and ESP_IMAGE not in put:
            assert new.cut_out(now) == old.cut_out(was)


def check_partitions(new: Seen, old: Seen, names: Names) -> None:
    """What could be mounted as a partition can be, and has the same files as the whole."""
    could = [at for at, _ in views_of_partitions(old, names)]
    trees = dict(views_of_partitions(new, names))
    assert [*trees] == could
    for tree in trees.values():
        assert not isos.differences(tree, new.files)


def check_boot_images(new: Seen, old: Seen, put: Mapping[str, bytes]) -> None:
    """The catalog leads to the same things, wherever they are now."""
    assert new.boot_paths == old.boot_paths
    assert [words[:-2] for words in new.boot_images] == [words[:-2] for words in old.boot_images]
    replaced = (
        {words[0].lower() for words in new.boot_paths if words[1].lower() == ESP_IMAGE} if ESP_IMAGE in put else ()
    )
    pairs = zip(new.boot_images, new.boot_contents(), old.boot_images, old.boot_contents(), strict=True)
    for now, loaded, was, had in pairs:
        if now[0] in replaced:
            assert loaded[: len(put[ESP_IMAGE])] == put[ESP_IMAGE][: len(loaded)]
            assert len(loaded) >= len(put[ESP_IMAGE])
        else:
            assert now[-2] == was[-2]
            assert loaded == had


@pytest.mark.parametrize(("kind", "names"), isos.LAYOUTS)
def test_nothing_is_the_identical_image(kind: IsoLayout, names: Names) -> None:
    base = isos.layout(kind, names)
    image = read_image(base)
    assert edited(image, base, IsoEdit()) == Rope.of(Range(0, base.size))
    assert image.find(INITRD) is not None
    same = IsoEdit(files={INITRD: image.content(INITRD)}, volume_id=image.volume_id)
    assert isos.rendered(edited(image, base, same), base) == Memory(base.data)
