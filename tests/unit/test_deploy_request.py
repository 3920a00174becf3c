"""A request takes plain words for enumerations, and refuses values of other types before anything is looked at."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from libironic_disk import grub, partitioner
from libironic_disk.errors import KernelParametersInvalid, LayoutInvalid
from libironic_disk.images import Engine, ImageFormat, ImageType, Location
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.facts import DiskFacts
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.presets import root
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import BootLoader, DeployRequest, FirmwareEntry

# What a caller without a type checker does.
untyped = cast("Callable[..., DeployRequest]", DeployRequest)
untyped_plan = cast("Callable[..., object]", partitioner.plan)
untyped_boot = cast("Callable[..., object]", grub.plan_boot)


def request_with(**fields: object) -> DeployRequest:
    return untyped(**({"device": "/dev/none", "image": Path("image.raw")} | fields))


def problems_of(**fields: object) -> tuple[str, ...]:
    with pytest.raises(LayoutInvalid) as refused:
        request_with(**fields)
    return refused.value.problems


@pytest.mark.parametrize(
    "member",
    [*BootLoader, *FirmwareEntry, *ImageFormat, *ImageType, *Engine, *Firmware, *Architecture, *TableKind],
    ids=lambda member: f"{type(member).__name__}-{member}",
)
def test_a_word_is_as_good_as_its_member(
    member: BootLoader | FirmwareEntry | ImageFormat | ImageType | Engine | Firmware | Architecture | TableKind,
) -> None:
    field = {
        BootLoader: "boot_loader",
        FirmwareEntry: "firmware_entry",
        ImageFormat: "image_format",
        ImageType: "image_type",
        Engine: "image_engine",
        Firmware: "firmware",
        Architecture: "architecture",
        TableKind: "table",
    }[type(member)]
    assert getattr(request_with(**{field: member.value}), field) is member
    assert getattr(request_with(**{field: member}), field) is member


def test_every_wrong_field_is_told_at_once() -> None:
    assert problems_of(boot_loader="lilo", table=3, firmware=None, swap_mb="5") == (
        "swap_mb is a str: it must be an int",
        "table is an int: it must be one of gpt, mbr",
        "firmware is None: it must be one of bios, uefi",
        "boot_loader is 'lilo': it must be one of grub, none",
    )


@pytest.mark.parametrize(
    "field",
    ["root_mb", "swap_mb", "ephemeral_mb", "file_sector_size", "image_size", "menu_timeout", "config_drive_limit"],
)
@pytest.mark.parametrize("value", ["5", True, 5.0])
def test_numbers_are_ints(field: str, value: object) -> None:
    name = type(value).__name__
    assert problems_of(**{field: value}) == (f"{field} is a {name}: it must be an int",)
    assert getattr(request_with(**{field: 5}), field) == 5


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("seed", "abc", "seed is a str: it must be a bytes"),
        ("preserve_ephemeral", "no", "preserve_ephemeral is a str: it must be a bool"),
        ("layout", {}, "layout is a dict: it must be a Layout"),
        ("spool_dir", "/tmp", "spool_dir is a str: it must be a pathlib.Path"),
        ("kernel_parameters", ["quiet"], "kernel_parameters is a list: it must be a KernelParameters"),
        ("serial", "ttyS0", "serial is a str: it must be a SerialConsole"),
        ("device", b"/dev/none", "device is a bytes: it must be a str"),
        ("swap_mb", None, "swap_mb is None: it must be an int"),
    ],
)
def test_other_types_are_refused(field: str, value: object, problem: str) -> None:
    assert problems_of(**{field: value}) == (problem,)


def test_a_device_may_be_a_path() -> None:
    assert request_with(device=Path("/dev/none")).device == "/dev/none"


def test_kernel_parameters_may_be_a_text() -> None:
    assert request_with(kernel_parameters="quiet panic=30").kernel_parameters == KernelParameters(
        words=("quiet", "panic=30")
    )
    with pytest.raises(KernelParametersInvalid):
        request_with(kernel_parameters='a="b')


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"image.raw", "given as bytes: wrap the bytes in io.BytesIO"),
        (None, "given as NoneType: a path, a URL, a list of URLs, an open stream or an iterable of bytes is wanted"),
        ("", "it is an empty text"),
        ("ftp://example.org/image.raw", "URLs of the kind ftp are not read"),
        ("file://server/image.raw", "a file URL is file:// and an absolute path"),
        ([], "it is an empty list"),
        (["http://example.org/image.raw", "image.raw"], "a list with a text that is no http or https URL"),
    ],
)
def test_what_can_never_be_an_image_is_refused_at_once(image: object, problem: str) -> None:
    (told,) = problems_of(image=image)
    assert told.startswith("image is no image: ")
    assert problem in told


@pytest.mark.parametrize(
    "image",
    [
        "image.raw",
        Path("image.raw"),
        "file:///image.raw",
        "https://example.org/image.raw",
        Location(url="https://example.org/image.raw"),
        ["http://a.example.org/image.raw", Location(url="http://b.example.org/image.raw")],
        [b"pieces", b"of it"],
        io.BytesIO(),
        iter([b"pieces"]),
    ],
    ids=["text", "path", "file URL", "URL", "location", "mirrors", "pieces", "stream", "generator"],
)
def test_an_image_is_taken_as_it_is_from_wherever_it_is(image: object) -> None:
    assert request_with(image=image).image is image


def test_the_parts_refuse_unknown_words() -> None:
    layout = Layout(table=TableKind.GPT, partitions=(root(),))
    with pytest.raises(LayoutInvalid, match="existing is 'keep': it must be one of match, replace"):
        untyped_plan(layout, cast("DiskFacts", None), existing="keep")
    right = {"firmware": "bios", "architecture": "x86_64", "table": "gpt"}
    rest = {"device": "/dev/none", "sector_size": 512, "first_partition_start": 0, "bios_boot": None, "has_esp": True}
    for field in right:
        with pytest.raises(LayoutInvalid, match=f"{field} is 'other'"):
            untyped_boot(**(right | rest | {field: "other"}))
