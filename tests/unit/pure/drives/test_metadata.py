"""Metadata: the files it becomes, and what it refuses without a word about its contents."""

from __future__ import annotations

import json
from collections import OrderedDict
from types import MappingProxyType

import pytest

from libironic_disk.errors import ConfigDriveInvalid
from libironic_disk.pure.drives.metadata import Metadata, files

HIDDEN = "hunter2"


def _loop() -> dict[str, object]:
    endless: dict[str, object] = {}
    endless[HIDDEN] = endless
    return endless


def test_every_field_under_both_versions() -> None:
    made = files(
        Metadata(
            meta_data={"uuid": "1", "name": "ü"},
            user_data="#!/bin/sh\necho ü",
            network_data={"links": [{"mtu": None}]},
            vendor_data={"a": (1, 2.5, True)},
        )
    )
    for version in ("2012-08-10", "latest"):
        assert json.loads(made.pop(f"openstack/{version}/meta_data.json")) == {"uuid": "1", "name": "ü"}
        assert made.pop(f"openstack/{version}/user_data") == "#!/bin/sh\necho ü".encode()
        assert json.loads(made.pop(f"openstack/{version}/network_data.json")) == {"links": [{"mtu": None}]}
        assert json.loads(made.pop(f"openstack/{version}/vendor_data2.json")) == {"a": [1, 2.5, True]}
    assert made == {}


def test_what_is_absent_has_no_file() -> None:
    assert set(files(Metadata(meta_data={}))) == {
        "openstack/2012-08-10/meta_data.json",
        "openstack/latest/meta_data.json",
    }


@pytest.mark.parametrize(
    ("user_data", "written"),
    [(b"\0\xff", b"\0\xff"), ("", b""), ({"ignition": {}}, b'{"ignition": {}}'), ([1, "a"], b'[1, "a"]')],
)
def test_user_data(user_data: str | bytes | dict[str, object] | list[object], written: bytes) -> None:
    assert files(Metadata(meta_data={}, user_data=user_data))["openstack/latest/user_data"] == written


def test_neither_order_nor_class_of_a_mapping_matters() -> None:
    one = MappingProxyType({"a": OrderedDict(x=1, y=2), "b": 1})
    other = {"b": 1, "a": {"y": 2, "x": 1}}
    assert files(Metadata(meta_data=one)) == files(Metadata(meta_data=other))


@pytest.mark.parametrize(
    "values",
    [
        {"meta_data": {HIDDEN: float("nan")}},
        {"meta_data": {"a": [float("inf"), HIDDEN]}},
        {"meta_data": {HIDDEN: {1: 2}}},
        {"meta_data": {HIDDEN: {HIDDEN}}},
        {"meta_data": {"a": HIDDEN.encode()}},
        {"meta_data": _loop()},
        {"meta_data": HIDDEN},
        {"meta_data": [HIDDEN]},
        {"meta_data": None, "user_data": HIDDEN},
        {"user_data": HIDDEN},
        {"meta_data": {}, "user_data": HIDDEN + "\ud800"},
        {"meta_data": {}, "user_data": 7},
        {"meta_data": {}, "user_data": {HIDDEN: object()}},
        {"meta_data": {}, "network_data": HIDDEN},
        {"meta_data": {}, "network_data": {HIDDEN: float("nan")}},
        {"meta_data": {}, "vendor_data": [HIDDEN]},
        {"meta_data": {}, HIDDEN: 1},
        {},
    ],
)
def test_refusals_name_the_field_and_keep_the_secret(values: dict[str, object]) -> None:
    with pytest.raises(ConfigDriveInvalid) as caught:
        files(Metadata.from_mapping(values))
    assert HIDDEN not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert caught.value.__context__ is None
    assert "_data" in caught.value.reason


def test_repr_names_the_fields_alone() -> None:
    assert repr(Metadata(meta_data={HIDDEN: HIDDEN}, user_data=HIDDEN)) == "<Metadata: meta_data, user_data>"
