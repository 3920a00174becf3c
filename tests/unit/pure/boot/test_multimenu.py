"""GRUB's script for several systems as text; what it does is seen in tests/machines/test_switching.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.boot.grubcfg import MenuEntry, SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.multimenu import (
    MAX_ID,
    MultiMenu,
    confirm_command,
    entry_id,
    render_config,
    render_menu,
)

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"


def entry(id: str, *, title: str = "A system", volume: str = "") -> MenuEntry:
    parameters = KernelParameters(words=("root=UUID=" + UUID, "ro"))
    return MenuEntry(
        id=id, title=title, root_uuid=UUID, kernel="/boot/vmlinuz", initrd="", parameters=parameters, volume=volume
    )


def check(script: str) -> None:
    subprocess.run(["grub-script-check"], input=script, text=True, check=True)


def test_both_scripts_are_scripts() -> None:
    check(render_config(serial=SerialConsole()))
    check(render_menu(MultiMenu(entries=(entry("a"), entry("b", volume="lvm/vg-root")), default="b")))


def test_entries_are_numbered_as_grub_numbers_them() -> None:
    menu = MultiMenu(entries=(entry("centos"), entry("centos+rescue"), entry("ubuntu")), default="centos")
    assert [menu.index(each.id) for each in menu.entries] == [0, 1, 2]
    lines = [line for line in render_menu(menu).splitlines() if line.startswith("menuentry")]
    assert [line.split("--id ")[1] for line in lines] == ["'centos' {", "'centos+rescue' {", "'ubuntu' {"]


@pytest.mark.parametrize("default", ["", "c"])
def test_a_default_that_is_no_entry_is_refused(default: str) -> None:
    """GRUB would boot the first entry without a word (bareon.md, 4.1)."""
    with pytest.raises(ValueError, match="include the default"):
        MultiMenu(entries=(entry("a"), entry("b")), default=default)


def test_an_id_twice_or_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        MultiMenu(entries=(entry("a"), entry("a")), default="a")
    with pytest.raises(ValueError, match="64 characters or fewer"):
        MultiMenu(entries=(entry("a" * 65),), default="a" * 65)


@given(
    st.text(max_size=80),
    st.text(max_size=80),
    st.from_regex(r"[0-9][A-Za-z0-9._+~-]{0,127}", fullmatch=True) | st.just(""),
)
def test_any_image_has_an_id(name: str, key: str, version: str) -> None:
    made = entry_id(name, key, version)
    assert len(made) <= MAX_ID
    assert entry(made).id == made
    assert made == entry_id(name, key, version)


def test_a_kernel_that_is_gone_is_passed_over_for_another_of_the_same_image() -> None:
    entries = (entry("a-1"), entry("a-1+6.1"), entry("b-2"), entry("a-1+5.9"))
    lines = render_menu(MultiMenu(entries=entries, default="b-2")).splitlines()
    assert 'if [ "${chosen}" = \'a-1\' ]; then set fallback="1 3"; fi' in lines
    assert not any("'b-2' ]; then set fallback" in line for line in lines)


def test_the_line_in_the_documentation_is_the_one_that_confirms() -> None:
    page = Path(__file__).parents[4].joinpath("docs/multiboot.rst").read_text()
    assert f"   {confirm_command('3b360901-7896-48d4-a14d-fc35e1582c74')}\n" in page
    check_shell = subprocess.run(["sh", "-n", "-c", confirm_command(UUID)], check=False)
    assert check_shell.returncode == 0


def test_names_that_contain_each_other_have_ids_of_their_own() -> None:
    """Bareon bound both to the first of them (bareon.md, 4.12)."""
    names = ("centos", "centos7", "CentOS", "cent-os", "центос", "")
    assert len({entry_id(name, name) for name in names}) == len(names)


def test_versions_that_differ_late_have_ids_of_their_own() -> None:
    made = {entry_id("x", "x", f"6.1.{'0' * 90}-{number}") for number in range(3)}
    assert len(made) == 3


@given(st.text(max_size=60))
def test_any_title_is_one_word(title: str) -> None:
    """An apostrophe cut it short, and a newline was a command of its own (bareon.md, 4.5 and 4.9)."""
    script = render_menu(MultiMenu(entries=(entry("a", title=title),), default="a"))
    assert sum(line.startswith("menuentry ") for line in script.split("\n")) == 1
