"""Fixtures that every room of tests shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import inside
from tests.support.disks import LoopDisk, attach

settings.register_profile("project", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

ALSO_INSIDE: tuple[str, ...] = ()
"""What `make test` runs a second time, in the test machine; `make test-machine` runs all of tests/loopdevices there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --inside, --full, and how far faults are walked."""
    inside.add_options(parser)
    parser.addoption("--fault-steps", default="1", metavar="COUNT", help="how many steps of each walk; or `every`")
    parser.addoption("--fault-table", metavar="FILE", help="the table that gets a row of each walk")


def pytest_configure(config: pytest.Config) -> None:
    """Let the test machine run its part."""
    config.pluginmanager.register(inside.plugin(ALSO_INSIDE), "inside")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fail early and in words where loop devices can't be had: a skip would look like a pass.

    Last, when those that -m leaves out are out.
    """
    here = (item for item in items if not isinstance(item, inside.InsideTest))
    needs_root = any(item.get_closest_marker("loopdevice") for item in here)
    if needs_root and (os.geteuid() != 0 or not Path("/dev/loop-control").exists()):
        raise pytest.UsageError("tests/loopdevices need root and /dev/loop-control; run them through `make test`")


@pytest.fixture(params=[512, 4096], ids=["512-byte-sectors", "4096-byte-sectors"])
def sector_size(request: pytest.FixtureRequest) -> int:
    """Each logical sector size that disks are sold with."""
    size: int = request.param
    return size


class Bench:
    """Makes blank loop disks for one test; all of them are gone afterwards."""

    def __init__(self, folder: Path, releases: ExitStack) -> None:
        self._folder = folder
        self._releases = releases
        self._count = 0

    def blank_file(self, size: int) -> Path:
        """Return a sparse file of ``size`` bytes."""
        self._count += 1
        path = self._folder / f"disk{self._count}.img"
        with path.open("wb") as file:
            file.truncate(size)
        self._releases.callback(path.unlink, missing_ok=True)
        return path

    def disk(self, size: int, sector_size: int, *, read_only: bool = False) -> LoopDisk:
        """Return a blank disk of ``size`` bytes."""
        return self.attach(self.blank_file(size), sector_size, read_only=read_only)

    def attach(self, file: Path, sector_size: int, *, read_only: bool = False) -> LoopDisk:
        """Return a disk whose contents are those of ``file``."""
        return self._releases.enter_context(attach(file, sector_size, read_only=read_only))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give loop disks, on a tmpfs where there is one so that a run doesn't wait for a disk of the machine."""
    folder = Path("/dev/shm") / tmp_path.name / str(os.getpid()) if os.access("/dev/shm", os.W_OK) else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as releases:
        yield Bench(folder, releases)
    if folder != tmp_path:
        folder.rmdir()
        # Another run may be in a test of the same name.
        with suppress(OSError):
            folder.parent.rmdir()
