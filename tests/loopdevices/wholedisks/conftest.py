"""What the tests of failing and of refused writes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import wholedisks
from tests.support.disks import LoopDisk

SIZE = 8 * MIB
LARGER = 11 * MIB


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 8 MiB with a GPT, as an image."""
    return wholedisks.make_disk(tmp_path_factory.mktemp("images") / "image.raw", SIZE, seed=5)


@pytest.fixture(scope="session")
def qcow2(raw: Path) -> Path:
    """The same, packed."""
    return wholedisks.as_qcow2(raw, "-c")


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    """A disk of 11 MiB with another system on it, whose backup table is at its very end."""
    return bench.attach(wholedisks.make_disk(bench.blank_file(LARGER), LARGER, seed=6), 512)


@pytest.fixture
def unchanged(disk: LoopDisk) -> Iterator[LoopDisk]:
    """The same disk, which must be as it was afterwards."""
    before = disk.digest()
    assert wholedisks.opinions(Path(disk.node), sector_size=512) == wholedisks.EVERYBODY
    yield disk
    assert disk.digest() == before
