"""What every error of the tree has in common, and that each sentence says what, where and how much."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import fields
from types import UnionType
from typing import get_type_hints

import pytest

from libironic_disk import errors
from libironic_disk.errors import (
    DeviceBusy,
    DeviceError,
    DeviceFailed,
    DeviceLocked,
    DiskError,
    LayoutDoesNotFit,
    NodeMissing,
    ProgramFailed,
    ProgramTimedOut,
    RequestError,
    SourceFailed,
    ToolMissing,
    add_aftermath,
)
from libironic_disk.units import GIB, MIB

EVERY_ERROR = sorted(
    (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DiskError)),
    key=lambda kind: kind.__name__,
)
# A value for every type that a field has, recognisable in a sentence.
SAMPLES: dict[type | UnionType, object] = {
    str: "some/name",
    int: 3 * MIB,
    float: 2.5,
    int | None: 4096,
    tuple[str, ...]: ("the first", "the second"),
}


def sample(kind: type[DiskError]) -> DiskError:
    hints = get_type_hints(kind)
    return kind(**{each.name: SAMPLES[hints[each.name]] for each in fields(kind) if each.init})


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_an_error_survives_another_process_with_its_fields_and_its_aftermath(kind: type[DiskError]) -> None:
    error = sample(kind)
    add_aftermath(error, "the disk does not boot")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is kind
        assert [getattr(again, each.name) for each in fields(kind)] == [
            getattr(error, each.name) for each in fields(kind)
        ]
        assert str(again) == str(error)


# Their reason says it already.
NOT_SAID = {("ServerRefused", "status"), ("SourceTimedOut", "timeout")}


@pytest.mark.parametrize("kind", [kind for kind in EVERY_ERROR if kind._sentence is not DiskError._sentence])
def test_a_sentence_has_every_field_of_its_error(kind: type[DiskError]) -> None:
    error = sample(kind)
    words = str(error)
    for each in fields(kind):
        if not each.init or (kind.__name__, each.name) in NOT_SAID:
            continue
        match getattr(error, each.name):
            case str(value):
                assert value in words
            case tuple(values):
                assert all(value.split()[0] in words for value in values)
            case float(value):
                assert f"{value:g}" in words
            case int(value):
                assert str(value) in words or "3 MiB" in words
            case value:
                raise AssertionError(f"{each.name} is {value!r}: no sample is known for its type")


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_is_in_the_drawn_tree(kind: type[DiskError]) -> None:
    assert errors.__doc__ is not None
    drawn = [line.split("── ")[-1].split()[0] for line in errors.__doc__.splitlines() if line.startswith("    ")]
    assert kind.__name__ in drawn


def test_the_drawn_tree_has_nothing_that_is_not_there() -> None:
    assert errors.__doc__ is not None
    drawn = {line.split("── ")[-1].split()[0] for line in errors.__doc__.splitlines() if "── " in line}
    assert drawn == {kind.__name__ for kind in EVERY_ERROR} - {"DiskError"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            LayoutDoesNotFit(device="sda", wanted=3 * GIB, available=2 * GIB, detail="root 3 GiB"),
            "the layout needs 3 GiB but sda has 2 GiB usable (root 3 GiB); take a larger disk or smaller partitions",
        ),
        (
            DeviceBusy(device="/dev/sda", users=("/dev/sda1 is mounted on /", "/dev/sda2 is swapped on")),
            "/dev/sda is in use: /dev/sda1 is mounted on /; /dev/sda2 is swapped on",
        ),
        (
            DeviceLocked(device="/dev/sda", waited=60.0, holders=()),
            "/dev/sda is locked; gave up after 60 s",
        ),
        (
            DeviceLocked(device="/dev/sda", waited=0.5, holders=("sfdisk (pid 7)",)),
            "/dev/sda is locked by sfdisk (pid 7); gave up after 0.5 s",
        ),
        (
            NodeMissing(device="/dev/sda", number=3, waited=10.0, found="the kernel does not know it"),
            "partition 3 of /dev/sda did not appear within 10 s: the kernel does not know it",
        ),
        (
            DeviceFailed(device="/dev/sda", action="writing", reason="Input/output error", offset=4096),
            "writing /dev/sda at byte 4096 failed: Input/output error",
        ),
        (
            DeviceFailed(device="/dev/sda", action="flushing", reason="Input/output error"),
            "flushing /dev/sda failed: Input/output error",
        ),
        (
            ProgramFailed(argv=("mkswap", "a b"), stderr="no such file\n", exit_code=1),
            "`mkswap 'a b'` ended with status 1: no such file",
        ),
        (
            ProgramFailed(argv=("false",), stderr=" \n", exit_code=1),
            "`false` ended with status 1: it said nothing",
        ),
        (ProgramTimedOut(argv=("sleep", "9"), stderr="", timeout=0.25), "`sleep 9` was killed after 0.25 s"),
        (
            SourceFailed(source="image.qcow2", reason="it ended early", offset=7),
            "reading image.qcow2 failed at byte 7: it ended early",
        ),
        (
            ToolMissing(tool="mkfs.xfs", package="xfsprogs"),
            "mkfs.xfs is not installed; it comes with the package xfsprogs",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DiskError) else "",
)
def test_an_error_says_what_happened_and_where(error: DiskError, sentence: str) -> None:
    assert str(error) == sentence


def test_what_was_left_behind_is_said_after_the_error_itself() -> None:
    error = DeviceFailed(device="/dev/sda", action="flushing", reason="gone")
    add_aftermath(error, "/dev/sda was left so that it does not boot")
    assert str(error) == "flushing /dev/sda failed: gone; /dev/sda was left so that it does not boot"


def test_a_stranger_s_error_gets_the_aftermath_as_a_note() -> None:
    error = KeyboardInterrupt()
    add_aftermath(error, "/dev/sda does not boot")
    assert error.__notes__ == ["/dev/sda does not boot"]


def test_two_errors_with_the_same_fields_are_two_errors() -> None:
    one, other = (ToolMissing(tool="a", package="b") for _ in range(2))
    assert one != other
    assert len({one, other}) == 2


def test_requests_and_devices_can_be_caught_apart() -> None:
    assert not any(issubclass(kind, RequestError) and issubclass(kind, DeviceError) for kind in EVERY_ERROR)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", b"a\xff".decode(errors="surrogateescape"), "a\u202eb"])
def test_a_name_from_an_image_can_be_printed(name: str) -> None:
    for error in (
        errors.PathFailed(tree="/dev/sda1", path=f"/boot/{name}", reason=name),
        errors.ImageDamaged(image="i", reason=name, offset=0),
        errors.MultibootDamaged(path="/x", reason=name),
    ):
        assert str(error).isprintable()
    assert errors.shown("größe") == "größe"
