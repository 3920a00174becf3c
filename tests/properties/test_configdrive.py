"""Properties of config drives: real ones are always recognised, and what they hold survives every way in."""

from __future__ import annotations

import base64
import gzip
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.configdrive import Metadata, VolumeKind, build, fitted, load
from libironic_disk.errors import ConfigDriveInvalid, RequestError
from tests.support import configdrives as images

# DOS takes these for devices, and the program that makes the tests' FAT won't write them.
DEVICES = {"AUX", "CON", "NUL", "PRN", *(f"{port}{at}" for port in ("COM", "LPT") for at in range(1, 5))}
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters='"*/:<>?\\|'), min_size=1, max_size=40
).filter(lambda name: name.strip(" .") == name and name.upper() not in DEVICES)


@pytest.mark.parametrize("kind", VolumeKind)
def test_ironic_9_1_250_random_real_images_as_raw_bytes(kind: VolumeKind) -> None:
    def check(seed: int) -> None:
        chance = random.Random(seed)
        tree = images.random_tree(chance)
        if kind is VolumeKind.ISO9660:
            options = chance.choice([("-J", "--norock"), ("-R", "-J"), ("-r", "-J", "-joliet-long")])
            data = images.iso(tree, *options, "-volset", f"{chance.random()}")
        else:
            size = chance.randint(1024, 6000) * 1024
            data = images.fat(tree, size=size, sector_size=chance.choice([512, 1024, 2048, 4096]))
        loaded = load(data)
        assert (loaded.kind, loaded.data) == (kind, data)
        assert load(base64.b64encode(gzip.compress(data, 1)).decode()) == loaded
        if seed % 10 == 0:
            assert images.fat_files(fitted(loaded, 4096).data) == tree

    # xorriso mostly sleeps, so several go at once.
    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(check, range(250)))) == 250


@given(st.binary(max_size=2000), st.sampled_from([bytes, base64.b64encode, gzip.compress]))
def test_random_bytes_are_refused_in_our_own_words(data: bytes, wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(ConfigDriveInvalid):
        load(wrap(data))


@settings(max_examples=25)
@given(
    user_data=st.one_of(st.none(), st.binary(max_size=9000), st.text(st.characters(codec="utf-8"))),
    meta_data=st.dictionaries(st.text(max_size=9), st.one_of(st.none(), st.integers(), st.text(), st.booleans())),
    sector_size=st.sampled_from([512, 4096]),
)
def test_metadata_comes_back(user_data: str | bytes | None, meta_data: dict[str, object], sector_size: int) -> None:
    metadata = Metadata(meta_data=meta_data, user_data=user_data)
    drive = build(metadata, sector_size=sector_size)
    read = images.iso_files if drive.kind is VolumeKind.ISO9660 else images.fat_files
    expected = user_data.encode() if isinstance(user_data, str) else user_data
    assert read(drive.data).get("openstack/latest/user_data") == expected
    assert build(metadata, sector_size=sector_size) == drive


@settings(max_examples=25)
@given(st.dictionaries(NAMES, st.binary(max_size=5000), max_size=8), st.sampled_from(["iso", "fat"]))
def test_any_names_survive_the_way_to_another_disk(tree: dict[str, bytes], kind: str) -> None:
    tree = {f"d/{name}": content for name, content in tree.items()}
    if len({name.casefold() for name in tree}) < len(tree):
        tree = dict([*tree.items()][:1])
    data = images.iso(tree, "-R") if kind == "iso" else images.fat(tree)
    # mtools writes a few letters of the drive that it makes for us as their nearest kin in ASCII.
    given = tree if kind == "iso" else images.fat_files(data)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            rebuilt = load(data, sector_size=4096, tempdir=Path(scratch))
        except RequestError:
            # Refusing is allowed, changing isn't; that most trees pass is shown above.
            return
        finally:
            assert list(Path(scratch).iterdir()) == []
    assert images.fat_files(rebuilt.data) == given
