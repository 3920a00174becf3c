"""fstab(5) both ways; findmnt reads what is rendered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.fstab import Line, Mounted
from libironic_disk.pure.disks.layout import FileSystem

ROOT = "aaaaaaaa-0000-4000-8000-000000000001"
DATA = "aaaaaaaa-0000-4000-8000-000000000002"
SWAP = "aaaaaaaa-0000-4000-8000-000000000003"
OURS = fstab.lines_for(
    (
        Mounted(uuid=ROOT, mount="/", filesystem=FileSystem.EXT4, options="noatime"),
        Mounted(uuid=DATA, mount="/srv/my data", filesystem=FileSystem.XFS),
        Mounted(uuid=SWAP, mount="swap", filesystem=FileSystem.SWAP),
    )
)
fields = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20)


def as_findmnt_reads(text: str, folder: Path) -> list[list[str]]:
    path = folder / "fstab"
    path.write_text(text)
    argv = ["findmnt", "--tab-file", str(path), "--noheadings", "--raw", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return [line.split(" ") for line in said.splitlines()]


def test_lines_for_volumes(tmp_path: Path) -> None:
    text = fstab.merge("", OURS, keep=True, known=frozenset()).text
    assert text == (
        f"UUID={ROOT} / ext4 noatime 0 1\nUUID={DATA} /srv/my\\040data xfs defaults 0 0\nUUID={SWAP} none swap sw 0 0\n"
    )
    assert as_findmnt_reads(text, tmp_path)[:2] == [
        [f"UUID={ROOT}", "/", "ext4", "noatime"],
        [f"UUID={DATA}", r"/srv/my\x20data", "xfs", "defaults"],
    ]


def test_a_disabled_line_is_a_comment() -> None:
    (line,) = fstab.lines_for((Mounted(uuid=DATA, mount="/srv", filesystem=FileSystem.EXT3, enabled=False),))
    assert str(line) == f"#UUID={DATA} /srv ext3 defaults 0 2"
    assert fstab.parse_line(str(line)) is None


@given(fields, fields, fields, fields, st.integers(0, 9), st.integers(0, 9))
def test_any_line_is_read_as_it_was_written(
    spec: str, mount: str, kind: str, options: str, dump: int, passno: int
) -> None:
    line = Line(spec=spec, mount=mount, kind=kind, options=options, dump=dump, passno=passno)
    assert fstab.parse(f"# before\n{line}\n") == (line,)


@given(st.text(max_size=300))
def test_any_text_is_merged(own: str) -> None:
    merged = fstab.merge(own, OURS, keep=True, known=frozenset({ROOT}))
    assert fstab.parse(merged.text)[: len(OURS)] == OURS
    again = fstab.merge("\n".join(merged.text.split("\n")[len(OURS) :]), OURS, keep=True, known=frozenset({ROOT}))
    assert again.text == merged.text
    assert again.dropped == ()


@pytest.mark.parametrize(
    "line",
    [
        "LABEL=old / ext4 defaults 0 1",
        "UUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1",
        "/dev/sda2 /home ext4 defaults 0 2",
        "PARTUUID=1234 /var ext4",
        "/swapfile none swap sw 0 0",
    ],
)
def test_what_would_keep_a_system_from_coming_up_is_dropped_and_told(line: str) -> None:
    """Bareon overwrote the whole file without a word (bareon.md, 1.5)."""
    merged = fstab.merge(f"# theirs\n{line}\n", OURS, keep=True, known=frozenset({ROOT, DATA, SWAP}))
    assert merged.dropped == (line,)
    assert merged.text.endswith("# theirs\n")


@pytest.mark.parametrize(
    "line",
    [
        "tmpfs /tmp tmpfs size=1G 0 0",
        "server:/export /net nfs4 _netdev 0 0",
        "/srv/a /srv/b none bind 0 0",
        "//server/share /mnt cifs ro 0 0",
        f"UUID={DATA.upper()} /other xfs ro 0 0",
        "not a line",
    ],
)
def test_the_rest_of_an_images_own_is_kept(line: str) -> None:
    merged = fstab.merge(line, OURS, keep=True, known=frozenset({DATA}))
    assert merged.dropped == ()
    assert merged.text.endswith(f"{line}\n")


def test_without_merging_all_of_an_images_own_is_told() -> None:
    own = "# a comment\ntmpfs /tmp tmpfs\nLABEL=x / ext4\n"
    merged = fstab.merge(own, OURS, keep=False, known=frozenset())
    assert merged.dropped == ("tmpfs /tmp tmpfs", "LABEL=x / ext4")
    assert merged.text == fstab.merge("", OURS, keep=True, known=frozenset()).text
