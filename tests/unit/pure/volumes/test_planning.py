"""Names that device mapper gives to volumes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.volumes.planning import mapped_name, unmapped_name

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)


@given(group=NAMES, volume=NAMES)
def test_a_mapped_name_leads_back(group: str, volume: str) -> None:
    assert unmapped_name(mapped_name(group, volume)) == (group, volume)


@pytest.mark.parametrize("name", ["", "mpatha", "vg--root", "-", "--root"])
def test_what_no_volume_is_called_leads_nowhere(name: str) -> None:
    assert unmapped_name(name) == ("", "")
