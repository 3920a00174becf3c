"""Deployments of images that aren't what they seem: cut off, too large, the disk itself, or never coming."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.errors import Cancelled, DiskState, ImageDamaged, ImageRefused, ImageTooLarge
from libironic_disk.events import Cancellation
from libironic_disk.images import ImageType, Proof
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import BootLoader, DeployRequest
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles

pytestmark = pytest.mark.loopdevice

MAKE = {
    "ext4": ("mke2fs", "-q", "-t", "ext4"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system of 64 MiB."""
    image = tmp_path_factory.mktemp("images") / "image"
    oracles.output(*MAKE["ext4"], str(image), "64M")
    return image


@pytest.mark.parametrize("way", ["file", "stream", "compressed stream"])
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_file_system_that_lacks_its_end_never_boots(bench: Bench, tmp_path: Path, kind: str, way: str) -> None:
    whole = tmp_path / "whole"
    with whole.open("wb") as file:
        file.truncate(320 * MIB)
    oracles.output(*MAKE[kind], str(whole))
    os.truncate(whole, 319 * MIB)
    disk = bench.disk(1 << 30, 512)
    if way == "compressed stream":
        oracles.output("zstd", "-q", "--rm", str(whole), "-o", str(tmp_path / "packed"))
        whole = tmp_path / "packed"
    with whole.open("rb") as stream:
        image = whole if way == "file" else stream
        request = DeployRequest(device=disk.node, image=image, boot_loader=BootLoader.NONE)
        with pytest.raises(
            ImageDamaged, match="its file system has 335544320 bytes, the image only 334495744"
        ) as failed:
            deploy.deploy(request)
    assert failed.value.disk is (DiskState.UNCHANGED if way == "file" else DiskState.UNBOOTABLE)
    assert not oracles.has_table(disk.node)


def test_a_file_system_that_is_larger_than_its_partition_is_refused_first(bench: Bench, ext4: Path) -> None:
    disk = bench.disk(GIB, 512)
    before = disk.digest()
    with ext4.open("rb") as stream, pytest.raises(ImageTooLarge, match="the partition root has 32 MiB"):
        deploy.deploy(DeployRequest(device=disk.node, image=stream, root_mb=32))
    assert disk.digest() == before


def test_a_stream_of_unknown_length_is_told_to_prove_nothing(bench: Bench, ext4: Path) -> None:
    disk = bench.disk(256 * MIB, 512)
    with ext4.open("rb") as stream:
        result = deploy.deploy(
            DeployRequest(device=disk.node, image=stream, firmware=Firmware.BIOS, boot_loader=BootLoader.NONE)
        )
    assert result.proof is Proof.NONE
    assert result.warnings == (
        "nothing shows that the image came whole: it has no checksum, and its source didn't say how long it is",
    )


def test_an_image_is_never_its_own_disk(ext4: Path, tmp_path: Path) -> None:
    before = ext4.read_bytes()
    (tmp_path / "link").symlink_to(ext4)
    for image_type in ImageType:
        request = DeployRequest(device=str(tmp_path / "link"), file_sector_size=512, image=ext4, image_type=image_type)
        with pytest.raises(ImageRefused, match=r"it is the disk .*/link itself") as refused:
            deploy.deploy(request)
        assert refused.value.disk is DiskState.UNCHANGED
    assert ext4.read_bytes() == before


@pytest.mark.parametrize("what", ["image", "config drive"])
def test_planning_ends_within_a_second_of_being_cancelled(
    bench: Bench, ext4: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    disk = bench.disk(GIB, 512)
    switch = Cancellation()
    threading.Timer(0.3, switch.cancel).start()
    silent, talking = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as nobody, os.fdopen(silent, "rb") as stream, os.fdopen(talking, "wb"):
        request = (
            DeployRequest(device=disk.node, image=stream)
            if what == "image"
            else DeployRequest(
                device=disk.node, image=ext4, config_drive=f"http://127.0.0.1:{nobody.getsockname()[1]}/drive"
            )
        )
        began = time.monotonic()
        with pytest.raises(Cancelled) as cancelled:
            deploy.plan(request, cancel=switch)
        assert time.monotonic() - began < 1.3
    assert cancelled.value.disk is DiskState.UNCHANGED
