"""GRUB's environment block, with grub-editenv as the other opinion."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import MultibootDamaged
from libironic_disk.pure.boot import grubenv

names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def edited(block: bytes, *argv: str, path: Path) -> bytes:
    path.write_bytes(block)
    subprocess.run(["grub-editenv", str(path), *argv], check=True)
    return path.read_bytes()


def test_grub_reads_what_is_rendered(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    path.write_bytes(grubenv.render({"saved_entry": "debian-1a2b", "next_entry": ""}, path="grubenv"))
    said = subprocess.run(["grub-editenv", str(path), "list"], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["saved_entry=debian-1a2b", "next_entry="]


def test_what_grub_writes_is_read(tmp_path: Path) -> None:
    block = edited(b"", "create", path=tmp_path / "grubenv")
    assert grubenv.parse(block, path="grubenv") == {}
    block = edited(block, "set", "saved_entry=a", r"odd=one \ two", path=tmp_path / "grubenv")
    assert grubenv.parse(block, path="grubenv") == {"saved_entry": "a", "odd": r"one \ two"}


def test_grub_overwrites_a_variable_in_its_place(tmp_path: Path) -> None:
    block = grubenv.render({"saved_entry": "a", "trial_left": "3", "other": "b"}, path="grubenv")
    after = edited(block, "set", "trial_left=2", path=tmp_path / "grubenv")
    assert after == block.replace(b"trial_left=3", b"trial_left=2")


@given(st.dictionaries(names, values, max_size=8))
def test_a_block_is_read_as_it_was_rendered(variables: dict[str, str]) -> None:
    assert grubenv.parse(grubenv.render(variables, path="grubenv"), path="grubenv") == variables


@given(st.binary(max_size=1100))
def test_any_bytes_are_variables_or_are_refused(block: bytes) -> None:
    sound = len(block) == grubenv.SIZE and block.startswith(b"# GRUB Environment Block\n")
    with nullcontext() if sound else pytest.raises(MultibootDamaged):
        grubenv.parse(block, path="grubenv")


@pytest.mark.parametrize("size", [0, 1000, 1023, 1025])
def test_a_block_of_another_size_is_damaged(size: int) -> None:
    with pytest.raises(MultibootDamaged, match=f"{size} bytes and not 1024"):
        grubenv.parse(grubenv.render({}, path="x").ljust(size, b"#")[:size], path="x")


def test_more_than_it_holds_is_refused() -> None:
    with pytest.raises(MultibootDamaged, match="no room"):
        grubenv.render({"a": "x" * 1000}, path="x")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("no separator\nsaved_entry=b\n", {"no separator\nsaved_entry": "b"}),
        ("a\\b=1\n", {"a\\b": "1"}),
        ("a=1\n#b=2\n\nc=3\n", {"a": "1", "\nc": "3"}),
        ("a=1\\\nb=2\nc=3", {"a": "1\nb=2"}),
        ("a=\n=b\nend", {"a": "", "": "b"}),
    ],
)
def test_odd_lines_are_read_as_grub_reads_them(tmp_path: Path, lines: str, expected: dict[str, str]) -> None:
    """A name is whatever stands before the next "=": a line without one hides the next, and an open value the rest."""
    block = ("# GRUB Environment Block\n" + lines).encode().ljust(grubenv.SIZE, b"#")
    path = tmp_path / "grubenv"
    path.write_bytes(block)
    said = subprocess.run(["grub-editenv", str(path), "list"], check=True, capture_output=True, text=True).stdout
    assert said == "".join(f"{name}={value}\n" for name, value in expected.items())
    found = grubenv.parse(block, path="grubenv")
    assert found == expected
    assert grubenv.parse(grubenv.render(found, path="grubenv"), path="grubenv") == found
