"""Volume ids in boot loaders' configuration."""

from __future__ import annotations

import pytest

from libironic_disk.pure.bootisos import labels


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("append initrd=i inst.stage2=hd:LABEL=Fedora\\x2030 quiet", "append initrd=i inst.stage2=hd:LABEL=NEW quiet"),
        ("linux /k root=live:CDLABEL=Fedora\\x2030:/x y", "linux /k root=live:CDLABEL=NEW:/x y"),
        ("linux /k archisolabel=Fedora\\x2030", "linux /k archisolabel=NEW"),
        ("search --no-floppy --set=root -l 'Fedora 30'", "search --no-floppy --set=root -l 'NEW'"),
        ('  search --label "Fedora 30" --set root', '  search --label "NEW" --set root'),
        ("if x; then search --label Fedora\\ 30; fi", "if x; then search --label NEW; fi"),
    ],
)
def test_what_looks_for_the_medium_looks_for_the_new_one(before: str, after: str) -> None:
    assert labels.renamed(f"{before}\r\nother\n".encode(), "Fedora 30", "NEW") == f"{after}\r\nother\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        "menuentry 'Install Fedora 30' {",
        "LABEL Fedora 30",
        "append archisolabel=Fedora\\x2030B",
        "research 'Fedora 30'",
        "echo Fedora 30",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert labels.renamed(text.encode(), "Fedora 30", "NEW") == text.encode()


def test_a_volume_without_a_name_is_looked_for_by_nobody() -> None:
    assert labels.renamed(b"search -l ''\n", "", "NEW") == b"search -l ''\n"


def test_hostile_lines_take_no_time() -> None:
    text = b"search " * 100_000 + b"\n" + b"label=" * 100_000 + b"a\\x20" * 50_000
    assert labels.renamed(text, "a a a a b", "NEW") == text


@pytest.mark.parametrize(
    ("name", "plain"), [("NEW_1.0", True), ("a b", False), ("", False), ("x;y", False), ("ä", False)]
)
def test_plain_names(name: str, plain: bool) -> None:
    assert labels.is_plain(name) is plain
