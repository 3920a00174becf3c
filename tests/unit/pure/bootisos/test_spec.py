from __future__ import annotations

import datetime
import subprocess
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import BootIsoRefused, KernelParametersInvalid
from libironic_disk.pure.boot.grubcfg import SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.bootisos.spec import BootIsoSpec, menu, volume_uuid
from libironic_disk.pure.roles import Architecture, Firmware

SPEC = BootIsoSpec(
    kernel=PurePosixPath("/vmlinuz"), ramdisk=PurePosixPath("/initrd"), parameters=KernelParameters(words=("quiet",))
)


@pytest.mark.parametrize("volume_id", ["BOOT_ISO", "config-2", "VMEDIA_BOOT_ISO", "a", "X" * 32])
def test_volume_ids_that_linux_finds_are_taken(volume_id: str) -> None:
    assert replace(SPEC, volume_id=volume_id).volume_id == volume_id


@pytest.mark.parametrize("volume_id", ["", "X" * 33, "two words", "a/b", "é", "a\nb", "$(x)"])
def test_other_volume_ids_are_refused(volume_id: str) -> None:
    with pytest.raises(BootIsoRefused, match="volume id"):
        replace(SPEC, volume_id=volume_id)


@pytest.mark.parametrize("publisher_id", ["x" * 129, "é", "a\nb"])
def test_publisher_ids_that_no_descriptor_has_are_refused(publisher_id: str) -> None:
    with pytest.raises(BootIsoRefused, match="publisher id"):
        replace(SPEC, publisher_id=publisher_id)


@pytest.mark.parametrize(
    "path",
    [
        "../up",
        "/a/../../up",
        "a//b",
        "",
        "/",
        "a/",
        "./a",
        "a\nb",
        "a\0b",
        "\udc80",
        "x" * 256,
        "boot",
        "/boot",
        "/boot/vmlinuz",
        "BOOT/Vmlinuz",
        "/boot/vmlinuz/below",
        "boot/grub",
        "/boot/grub/grub.cfg",
        "boot/GRUB/other",
        "boot.catalog",
    ],
)
def test_files_that_climb_or_take_the_place_of_ours_are_refused(path: str) -> None:
    with pytest.raises(BootIsoRefused):
        replace(SPEC, files={path: b"x"})


@pytest.mark.parametrize("files", [{"a": b"", "/a": b""}, {"a": b"", "a/b": b""}])
def test_files_that_are_in_each_others_way_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(BootIsoRefused):
        replace(SPEC, files=files)


def test_files_beside_ours_are_taken() -> None:
    files = {"boot/other": b"", "/openstack/latest/meta_data.json": b"{}", "..hidden": b"", "boot/vmlinuz.sig": b""}
    assert replace(SPEC, files=files).files == files


@pytest.mark.parametrize("word", ["back\\slash", "single'quote"])
def test_parameters_that_grub_changes_are_refused(word: str) -> None:
    with pytest.raises(KernelParametersInvalid):
        replace(SPEC, parameters=KernelParameters(words=(word,)))


def test_the_kernel_keeps_all_of_the_longest_parameters() -> None:
    # COMMAND_LINE_SIZE is 2048 with the closing NUL, and GRUB begins the line.
    longest = 2047 - len("BOOT_IMAGE=/boot/vmlinuz ")
    replace(SPEC, parameters=KernelParameters(words=("x" * longest,)))
    with pytest.raises(KernelParametersInvalid, match="together"):
        replace(SPEC, parameters=KernelParameters(words=("x" * (longest + 1),)))


@pytest.mark.parametrize(
    ("architecture", "firmware", "signed"),
    [
        (Architecture.X86_64, frozenset[Firmware](), False),
        (Architecture.AARCH64, frozenset(Firmware), False),
        (Architecture.S390X, None, False),
        (Architecture.X86_64, frozenset({Firmware.BIOS}), True),
    ],
)
def test_firmware_that_there_is_not_is_refused(
    architecture: Architecture, firmware: frozenset[Firmware] | None, signed: bool
) -> None:
    with pytest.raises(BootIsoRefused):
        replace(SPEC, architecture=architecture, firmware=firmware, signed=signed)


def test_each_architecture_has_its_firmware() -> None:
    assert SPEC.starts_on == {Firmware.BIOS, Firmware.UEFI}
    assert replace(SPEC, architecture=Architecture.AARCH64).starts_on == {Firmware.UEFI}


def test_a_menu_is_not_shown_for_less_than_no_time() -> None:
    with pytest.raises(BootIsoRefused):
        replace(SPEC, timeout=-1)


def test_grub_reads_the_menu() -> None:
    parameters = KernelParameters(words=("a=1;halt", "b=$2G", "c={x}", "with a space", "#no", "--", "dup", "dup"))
    text = menu(replace(SPEC, parameters=parameters, serial=SerialConsole(), timeout=3), "2001-02-03-04-05-06-07")
    subprocess.run(["grub-script-check"], input=text.encode(), check=True)
    line = "linux '/boot/vmlinuz' 'a=1;halt' 'b=$2G' 'c={x}' 'with a space' '#no' '--' 'dup' 'dup'"
    assert line in [each.strip() for each in text.splitlines()]
    assert "set timeout=3" in text.splitlines()
    assert text.count("2001-02-03-04-05-06-07") == 1


@given(st.binary(min_size=16, max_size=64))
def test_every_volume_uuid_is_a_date(digest: bytes) -> None:
    uuid = volume_uuid(digest)
    date, hundredths = uuid[:-3], uuid[-2:]
    assert datetime.datetime.strptime(date, "%Y-%m-%d-%H-%M-%S").year >= 2000
    assert uuid[-3] == "-"
    assert hundredths.isdigit()
