"""fstab(5) both ways; findmnt reads what is rendered."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.fstab import Line, Mounted, Other
from libironic_disk.pure.disks.layout import FileSystem

# Of no file system that any test makes: findmnt looks for them on this machine.
ROOT = "0dd5f57a-b000-4000-8000-000000000001"
DATA = "0dd5f57a-b000-4000-8000-000000000002"
SWAP = "0dd5f57a-b000-4000-8000-000000000003"
OURS = fstab.lines_for(
    (
        Mounted(uuid=ROOT, mount="/", filesystem=FileSystem.EXT4, options="noatime"),
        Mounted(uuid=DATA, mount="/srv/my data", filesystem=FileSystem.XFS),
        Mounted(uuid=SWAP, mount="swap", filesystem=FileSystem.SWAP),
    )
)
fields = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20)


words = st.text(st.sampled_from("ab/,=.:-_ \t\n\\#é日🙂040"), min_size=1, max_size=12)


def as_findmnt_reads(text: str) -> list[Line]:
    """Every line as util-linux understands it, which is what mounts file systems at boot."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        columns = "SOURCE,TARGET,FSTYPE,OPTIONS,FREQ,PASSNO"
        argv = ["findmnt", "--tab-file", file.name, "--json", "--list", "--output", columns]
        done = subprocess.run(argv, capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stderr == ""
    return [
        Line(
            spec=row["source"],
            mount=row["target"],
            kind=row["fstype"],
            options=row["options"],
            dump=row["freq"],
            passno=row["passno"],
        )
        for row in json.loads(done.stdout)["filesystems"]
    ]


def test_lines_for_volumes() -> None:
    text = fstab.render(OURS)
    assert text == (
        f"UUID={ROOT} / ext4 noatime 0 1\nUUID={DATA} /srv/my\\040data xfs defaults 0 0\nUUID={SWAP} none swap sw 0 0\n"
    )
    assert tuple(as_findmnt_reads(text)) == OURS
    assert fstab.merge("", OURS, keep=True, known=frozenset()).text == text


def test_findmnt_finds_nothing_wrong_with_our_syntax(tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    path.write_text(fstab.render(OURS))
    argv = ["findmnt", "--verify", "--verbose", "--tab-file", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True)
    # That these file systems are not on this machine is all that it may complain about.
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines() if "[E]" in line or "[W]" in line] == [
        "[E] unreachable on boot required source",
        "[E] unreachable on boot required target",
        "[E] unreachable on boot required source",
        "[E] unreachable on boot required source",
    ]
    assert "0 parse errors" in done.stderr


def test_volumes_are_mounted_from_the_outside_in_whatever_their_order() -> None:
    """Bareon had them in the order of the schema (bareon.md, 1.5)."""
    lines = fstab.lines_for(
        (
            Mounted(uuid=SWAP, mount="swap", filesystem=FileSystem.SWAP),
            Mounted(uuid=DATA, mount="/var/lib/data", filesystem=FileSystem.EXT4),
            Mounted(uuid=DATA, mount="/var", filesystem=FileSystem.BTRFS),
            Mounted(uuid=DATA, mount="/boot/efi", filesystem=FileSystem.VFAT),
            Mounted(uuid=ROOT, mount="/", filesystem=FileSystem.EXT4),
        )
    )
    assert [(line.mount, line.passno) for line in lines] == [
        ("/", 1),
        ("/var", 0),
        ("/boot/efi", 2),
        ("/var/lib/data", 2),
        ("none", 0),
    ]


def test_no_options_are_written_as_some() -> None:
    swap = Mounted(uuid=SWAP, mount="swap", filesystem=FileSystem.SWAP, options="")
    data = Mounted(uuid=DATA, mount="/srv", filesystem=FileSystem.XFS, options="")
    assert [line.options for line in fstab.lines_for((data, swap))] == ["defaults", "sw"]


def test_a_line_with_an_empty_field_is_refused() -> None:
    with pytest.raises(ValueError, match="'/srv' is empty"):
        Line(spec="", mount="/srv", kind="ext4")


def test_a_disabled_line_is_a_comment() -> None:
    (line,) = fstab.lines_for((Mounted(uuid=DATA, mount="/srv", filesystem=FileSystem.EXT3, enabled=False),))
    assert str(line) == f"#UUID={DATA} /srv ext3 defaults 0 2"
    assert fstab.parse_line(str(line)) is None


@given(fields, fields, fields, fields, st.integers(0, 9), st.integers(0, 9))
def test_any_line_is_read_as_it_was_written(
    spec: str, mount: str, kind: str, options: str, dump: int, passno: int
) -> None:
    line = Line(spec=spec, mount=mount, kind=kind, options=options, dump=dump, passno=passno)
    assert fstab.parse(f"# before\n{line}\n") == (Other(text="# before"), line)


@settings(max_examples=60, deadline=None)
@given(words, words, st.integers(0, 9))
def test_findmnt_reads_any_line_as_we_do(spec: str, mount: str, passno: int) -> None:
    line = Line(spec=f"LABEL={spec}", mount=f"/{mount}", kind="ext4", options="rw,x-a=#b c", passno=passno)
    assert as_findmnt_reads(fstab.render([line])) == [line]


@pytest.mark.parametrize(
    "text",
    [
        r"LABEL=a\043b\040c /srv/caf\303\251\134x xfs rw,x-y=1\0122 0 2",
        "UUID=1234\t/data \t ext4  noatime 1 2 # and a comment",
        r"LABEL=\346\227\245\346\234\254 /\\x\08 ext4 ro",
    ],
)
def test_a_foreign_line_is_read_as_findmnt_reads_it(text: str) -> None:
    (expected,) = as_findmnt_reads(f"{text}\n")
    assert fstab.parse(text) == (expected,)


@given(st.text(max_size=300))
def test_what_mounts_nothing_comes_back_as_it_was(text: str) -> None:
    lines = fstab.parse(text)
    assert fstab.parse(fstab.render(lines)) == lines
    if not any(isinstance(line, Line) for line in lines):
        assert fstab.render(lines) == (text if text.endswith("\n") or not text else f"{text}\n")


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
        "tmpfs /srv//my\\040data/ tmpfs",
        'UUID="1A2B-3C4D" /boot/efi vfat',
        "/dev/disk/by-label/old /old ext4",
        "LABEL=old /old ext4 defaults # what getmntent reads, and findmnt doesn't",
        "ID=nvme-x /old ext4",
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
        "proc /proc proc",
        "server:/export /net nfs4 _netdev 0 0",
        "/srv/a /srv/b none bind 0 0",
        "//server/share /mnt cifs ro 0 0",
        f"UUID={DATA.upper()} /other xfs ro 0 0",
        f'UUID="{DATA}" /other xfs ro 0 0',
        f"/dev/disk/by-uuid/{DATA} /other xfs",
        "LABEL=data /other xfs",
        "/dev/disk/by-label/data /other xfs",
        "PARTUUID=ABCD-01 /other xfs",
        "/dev/md/home /other xfs",
        "too few",
    ],
)
def test_the_rest_of_an_images_own_is_kept(line: str) -> None:
    known = frozenset({DATA, "LABEL=data", "PARTUUID=abcd-01", "/dev/md/home"})
    merged = fstab.merge(line, OURS, keep=True, known=known)
    assert merged.dropped == ()
    assert merged.text.endswith(f"{line}\n")


def test_a_label_in_another_case_is_another_label() -> None:
    own = "LABEL=DATA /other xfs"
    assert fstab.merge(own, OURS, keep=True, known=frozenset({"LABEL=data"})).dropped == (own,)


def test_an_images_own_swap_stays_where_its_volumes_have_none() -> None:
    own = "/swapfile none swap sw 0 0"
    merged = fstab.merge(own, OURS[:2], keep=True, known=frozenset())
    assert merged.text == f"{fstab.render(OURS[:2])}{own}\n"
    assert merged.dropped == ()


def test_without_merging_all_of_an_images_own_is_told() -> None:
    own = "# a comment\ntmpfs /tmp tmpfs\nLABEL=x / ext4\n"
    merged = fstab.merge(own, OURS, keep=False, known=frozenset())
    assert merged.dropped == ("tmpfs /tmp tmpfs", "LABEL=x / ext4")
    assert merged.text == fstab.merge("", OURS, keep=True, known=frozenset()).text
