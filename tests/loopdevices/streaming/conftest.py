"""What all tests of streaming share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.qcow2_layouts import Shelf
from tests.support.webserver import WebServer, serving


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """A server on loopback."""
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Images in every layout, each made when it is asked for first."""
    return Shelf(tmp_path_factory.mktemp("layouts"))
