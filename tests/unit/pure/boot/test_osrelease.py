from __future__ import annotations

import pytest

from libironic_disk.pure.boot.osrelease import pretty_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n', "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME='Alpine \"x\"'\n", 'Alpine "x"'),
        ('# PRETTY_NAME="no"\nPRETTY_NAME=Arch\n', "Arch"),
        ('PRETTY_NAME="never closed\nID=x\n', ""),
        ("ID=x\n", ""),
        ("", ""),
    ],
)
def test_reads_what_the_shell_would(text: str, name: str) -> None:
    assert pretty_name(text) == name
