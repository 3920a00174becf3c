"""ISO images: ours read by xorriso and libblkid, xorriso's read by us, and hostile ones."""

from __future__ import annotations

import random
import time

import pytest

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge, RequestError
from libironic_disk.machine.drives import iso_image
from libironic_disk.pure.drives import iso9660
from tests.support import configdrives as images

MIB = 1024 * 1024
TREE = {"openstack/latest/meta_data.json": b"{}", "openstack/latest/user_data": b"x" * 5000, "top": b""}


def test_ours_is_what_xorriso_and_libblkid_say() -> None:
    data = iso_image.make(TREE, label="config-2")
    assert images.iso_files(data) == TREE == iso_image.read_files(data, limit=MIB)
    assert images.probed(data).items() >= {"TYPE": "iso9660", "LABEL": "config-2"}.items()
    volume = iso9660.recognise(data)
    assert volume is not None
    assert (volume.label, volume.sector_size, volume.size) == ("config-2", 2048, len(data))


def test_the_same_bytes_at_any_time_in_any_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = iso_image.make(TREE, label="config-2")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert iso_image.make(dict(reversed(TREE.items())), label="config-2") == first
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("options", [("-R",), ("-J", "--norock"), ("-R", "-J"), ("-r", "-J", "-joliet-long")])
def test_reads_what_xorriso_wrote(options: tuple[str, ...]) -> None:
    assert iso_image.read_files(images.iso(images.SMALL, *options), limit=MIB) == images.SMALL


def test_rock_ridge_goes_before_joliet_and_both_before_iso_names() -> None:
    tree = {"user data.json": b"1"}
    both = images.iso(tree, "-R", "-J").replace("user".encode("utf-16-be"), "joli".encode("utf-16-be"))
    assert set(iso_image.read_files(both, limit=MIB)) == {"user data.json"}
    assert set(iso_image.read_files(images.iso(tree, "-J", "--norock"), limit=MIB)) == {"user data.json"}
    assert set(iso_image.read_files(images.iso(tree, "--norock", "-iso-level", "3"), limit=MIB)) == {"USER_DATA.JSON"}


@pytest.mark.parametrize("name", [b"../x", b"/etc", b"a\0bc", b"x/yz"])
@pytest.mark.parametrize("joliet", [False, True])
def test_names_that_lead_elsewhere(name: bytes, joliet: bool) -> None:
    data = images.iso({"evil": b"1"}, *(("-J", "--norock") if joliet else ("-R",)))
    good, bad = (b"evil", name) if not joliet else ("evil".encode("utf-16-be"), name.decode().encode("utf-16-be"))
    assert good in data
    with pytest.raises(ConfigDriveInvalid, match=r"leads out of its directory|damaged"):
        iso_image.read_files(data.replace(good, bad), limit=MIB)


def test_a_name_that_is_the_parent_directory() -> None:
    data = images.iso({"ab": b"1"}, "-R")
    assert b"NM\x07\x01\0ab" in data
    with pytest.raises(ConfigDriveInvalid, match="leads out of its directory"):
        iso_image.read_files(data.replace(b"NM\x07\x01\0ab", b"NM\x07\x01\0.."), limit=MIB)


def test_symbolic_links() -> None:
    data = images.iso({"a": b"1"}, "-R", links={"b": "/etc/shadow"})
    with pytest.raises(ConfigDriveInvalid, match="symbolic link"):
        iso_image.read_files(data, limit=MIB)


def test_more_than_the_limit() -> None:
    data = images.iso({"a": b"1" * 1000, "b": b"2" * 1000}, "-R")
    assert len(iso_image.read_files(data, limit=2000)) == 2
    with pytest.raises(ConfigDriveTooLarge) as caught:
        iso_image.read_files(data, limit=1999)
    assert (caught.value.limit, caught.value.found) == (1999, 2000)


@pytest.mark.parametrize("size", [0, 40_000, -1])
def test_truncated(size: int) -> None:
    with pytest.raises(ConfigDriveInvalid, match="truncated"):
        iso_image.read_files(images.iso(images.SMALL, "-R")[:size], limit=MIB)


def test_damage_anywhere_is_refused_or_read_but_never_crashes() -> None:
    chance = random.Random(11)
    whole = images.iso(images.SMALL, "-R", "-J")
    refused = 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(32768, 80_000)] = chance.choice([0, 0xFF, chance.randrange(256)])
        try:
            files = iso_image.read_files(bytes(data), limit=MIB)
        except RequestError:
            refused += 1
        else:
            assert sum(map(len, files.values())) <= MIB
    assert refused > 100
