"""Tasks, addresses and URLs: what is taken, and what is refused with every defect."""

from __future__ import annotations

import pytest

from libironic_disk.boot import BootTask, MacAddress, NetworkRoot
from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot.addresses import url_problem
from libironic_disk.pure.netboot.task import as_parameters
from libironic_disk.pure.roles import Firmware


@pytest.mark.parametrize("text", ["52:54:00:AA:bb:01", "52-54-00-aa-bb-01", "525400AABB01"])
def test_an_address_has_one_form(text: str) -> None:
    mac = MacAddress(text)
    assert (str(mac), mac.hyphenated, mac.with_type) == (
        "52:54:00:aa:bb:01",
        "52-54-00-aa-bb-01",
        "01-52-54-00-aa-bb-01",
    )
    assert mac == MacAddress("52:54:00:aa:bb:01")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "52:54:00:aa:bb",
        "52:54:00:aa:bb:01:02",
        "52:54-00:aa:bb:01",
        "52:54:00:aa:bb:0g",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
        "52:54:00:aa:bb:01\n",
        "../../../../etc/passwd",
        "\u0665\u0662:54:00:aa:bb:01",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValue, match="MAC address"):
        MacAddress(text)


@pytest.mark.parametrize("url", ["http://192.0.2.1/a", "https://images.example:8443/x%20y", "tftp://[2001:db8::1]/k"])
def test_urls_that_loaders_can_be_given(url: str) -> None:
    assert url_problem(url) == ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/images/vmlinuz", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("http:///vmlinuz", "no server"),
        ("http://user:secret@host/vmlinuz", "credentials"),
        ("http://host:port/", "no URL"),
        ("http://[host/", "no URL"),
        ("http://host/${mac}", "a character"),
        ("http://host/a b", "a character"),
        ("http://host/a\npoweroff", "a character"),
        ("http://host/" + "a" * 2000, "more than"),
    ],
)
def test_urls_that_loaders_can_not_be_given(url: str, words: str) -> None:
    assert words in url_problem(url)


@pytest.mark.parametrize("node", ["", ".", "..", "../x", "a/b", "-x", ".hidden", "a" * 64, "a\n", "nöde", "a b"])
def test_a_node_that_can_not_be_part_of_a_name(node: str) -> None:
    with pytest.raises(InvalidParameterValue, match="file name"):
        BootTask(node=node)


def test_every_defect_of_a_task_is_named() -> None:
    mac = MacAddress("52:54:00:aa:bb:01")
    with pytest.raises(InvalidParameterValue) as caught:
        BootTask(node="/", macs=(mac, MacAddress("525400aabb01")), firmware=Firmware.BIOS, secure_boot=True)
    assert len(caught.value.problems) == 3


def test_a_root_uuid_that_is_none() -> None:
    with pytest.raises(InvalidParameterValue, match="root_uuid"):
        NetworkRoot(kernel="http://h/k", ramdisk="http://h/r", root_uuid="x quiet")


def test_ramdisk_parameters_keep_their_order() -> None:
    given = {"ipa-api-url": "http://h:1/", "nofb": None, "empty": "", "b": "two words"}
    assert as_parameters(given).words == ("ipa-api-url=http://h:1/", "nofb", "empty=", "b=two words")


def test_every_ramdisk_parameter_that_can_not_be_one_is_named() -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        as_parameters({"a b": "1", "c=d": None, "e": 'a"b', "f": "x\ny", "good": "1"})
    text = " ".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for name in ("'a b'", "'c=d'", "e=", "f="):
        assert name in text
