"""Fixtures for tests that only a whole kernel can run."""

from __future__ import annotations

import pytest

from tests.support.machinedisks import blank


@pytest.fixture
def nvme() -> str:
    """A blank NVMe disk, whose partitions' names have a p."""
    return blank("nvme-512")
