"""A worker under a tracer, and what it must not touch."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from libironic_disk.units import MIB
from tests.support import hostile_roots
from tests.support.disks import attach
from tests.support.hostile_roots import Outside
from tests.support.hostile_trace import Bench
from tests.support.tracing import Worker

ALL = "--all-hostile"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --all-hostile, for when this directory is named on the command line."""
    parser.addoption(ALL, action="store_true", help="deploy each hostile root, as an image and in a menu: half an hour")


@pytest.fixture(scope="package")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give the worker, and take it away."""
    folder = tmp_path_factory.mktemp("hostile")
    disk, temporary = folder / "a-disk-of-the-machine", folder / "temporary"
    temporary.mkdir()
    disk.write_bytes(hostile_roots.SECRET.ljust(MIB, b"\n"))
    with attach(disk, 512) as device:
        outside = Outside.made(folder / "outside", os.stat(device.node).st_rdev)
        worker = Worker("tests.support.hostile_worker", folder, TMPDIR=str(temporary), PYTHONDONTWRITEBYTECODE="1")
        try:
            yield Bench(folder=folder, outside=outside, disk=device, worker=worker)
        finally:
            worker.close()
