"""A worker under a tracer, and what it must not touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hostile_trace import Bench

ALL = "--all-hostile"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --all-hostile, for when this directory is named on the command line."""
    parser.addoption(ALL, action="store_true", help="deploy each hostile root, as an image and in a menu: half an hour")


@pytest.fixture(scope="package")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give the worker, and take it away."""
    with Bench.made(tmp_path_factory.mktemp("hostile")) as bench:
        yield bench
