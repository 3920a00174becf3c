"""A system is meant by any of its names, and where two could be meant neither is."""

from __future__ import annotations

import pytest

from libironic_disk.errors import EntryUnknown
from libironic_disk.pure.multiboot.bootinfo import BootElement
from libironic_disk.pure.multiboot.resolving import resolve


def element(grub_id: int, os_id: str, *, entry_id: str = "", image_name: str = "", image_uuid: str = "") -> BootElement:
    return BootElement(
        grub_id=grub_id,
        os_id=os_id,
        entry_id=entry_id,
        image_name=image_name,
        image_uuid=image_uuid,
        boot_name=os_id,
        root_uuid="2abf123d-d52f-4f62-a351-7358221bc51f",
    )


CENTOS = element(0, "centos", entry_id="centos-1a2b", image_name="centos-7.1.1503", image_uuid="2a86b00d")
UBUNTU = element(2, "ubuntu", entry_id="ubuntu-3c4d", image_name="ubuntu", image_uuid="157636d8")
BOTH = (CENTOS, UBUNTU)


@pytest.mark.parametrize("key", ["ubuntu-3c4d", "157636d8", "ubuntu", 2])
def test_every_name_of_a_system_leads_to_it(key: str | int) -> None:
    assert resolve(BOTH, key) is UBUNTU


def test_the_first_menu_entry_is_found_by_its_number() -> None:
    """A 0 that is taken for nothing is how this goes wrong (bareon.md, section 2)."""
    assert resolve(BOTH, 0) is CENTOS


@pytest.mark.parametrize("key", ["debian", "", "2", "UBUNTU", "ubunt", 1, -1, True])
def test_what_nothing_is_called_is_unknown_and_the_systems_are_named(key: str | int) -> None:
    with pytest.raises(EntryUnknown) as caught:
        resolve(BOTH, key)
    assert (caught.value.key, caught.value.reason) == (str(key), "unknown")
    assert caught.value.candidates == ("centos-1a2b (centos)", "ubuntu-3c4d (ubuntu)")
    assert str(caught.value) == (
        f"the system {str(key)!r} is unknown; there are centos-1a2b (centos), ubuntu-3c4d (ubuntu)"
    )


def test_no_system_at_all_is_said_so() -> None:
    with pytest.raises(EntryUnknown, match="the system 'a' is unknown; there are none"):
        resolve((), "a")


@pytest.mark.parametrize("key", ["same", "5f0c"])
def test_one_image_twice_is_ambiguous_by_its_name_and_uuid_and_not_by_its_systems(key: str) -> None:
    """Bareon took the first (bareon.md, section 2)."""
    twins = (
        element(1, "blue", image_name="same", image_uuid="5f0c"),
        element(4, "green", image_name="same", image_uuid="5f0c"),
    )
    with pytest.raises(EntryUnknown) as caught:
        resolve((*twins, UBUNTU), key)
    assert (caught.value.reason, caught.value.candidates) == ("ambiguous", ("1 (blue)", "4 (green)"))
    assert resolve(twins, "green") is twins[1]
    assert resolve(twins, 4) is twins[1]


def test_the_name_of_one_systems_image_and_of_another_system_is_ambiguous() -> None:
    with pytest.raises(EntryUnknown, match="'old' is ambiguous"):
        resolve((element(0, "old", image_name="a"), element(1, "b", image_name="old")), "old")


def test_the_id_of_an_entry_comes_before_the_name_of_an_image() -> None:
    by_id = element(0, "a", entry_id="twist")
    assert resolve((element(1, "twist", entry_id="b"), by_id), "twist") is by_id


def test_a_part_of_a_name_is_none() -> None:
    """Bareon compared by substring: "centos" was in "centos7" (bareon.md, defect 12)."""
    assert resolve((element(0, "centos7"), element(1, "centos")), "centos").grub_id == 1
