"""Lists of checksums, checked by the programs that make them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from libironic_disk.pure.bootisos import checksumfiles

PROGRAMS = ("md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum")
BEFORE = {"boot/grub.cfg": b"old", "live/initrd with a space": b"disk", "README": b"read"}


def tree(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("how", [(), ("--tag",), ("--binary",)], ids=["text", "bsd", "binary"])
@pytest.mark.parametrize("before", ["", "./"])
def test_a_renewed_list_is_right_again(tmp_path: Path, program: str, how: tuple[str, ...], before: str) -> None:
    tree(tmp_path, BEFORE)
    names = [before + name for name in BEFORE]
    made = subprocess.run([program, *how, *names], cwd=tmp_path, capture_output=True, check=True).stdout
    new = {"/boot/grub.cfg": b"new and longer", "/live/initrd with a space": b"disk and more"}
    tree(tmp_path, {path[1:]: content for path, content in new.items()})

    def value_of(path: str, algorithm: str) -> str | None:
        return hashlib.new(algorithm, new[path]).hexdigest() if path in new else None

    (tmp_path / "list").write_bytes(made)
    assert subprocess.run([program, "-c", "list"], cwd=tmp_path, capture_output=True, check=False).returncode == 1
    renewed = checksumfiles.renewed(made, directory="/", value_of=value_of)
    (tmp_path / "list").write_bytes(renewed)
    assert subprocess.run([program, "-c", "list"], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert len(renewed) == len(made)


def test_paths_count_from_the_list_s_directory() -> None:
    text = b"0" * 32 + b"  filesystem.squashfs\n" + b"1" * 32 + b"  ../boot/vmlinuz\n"
    assert [line.path for line in checksumfiles.sums(text, directory="/casper")] == [
        "/casper/filesystem.squashfs",
        "/boot/vmlinuz",
    ]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *dict.fromkeys(
            ("md5sum.txt", "sha256sum.txt", "SHA256SUMS", "MD5SUMS", "SHA512SUMS", "sha256sum"), True
        ).items(),
        *dict.fromkeys(("airootfs.sha512", "initrd.md5"), True).items(),
        *dict.fromkeys(("SHA256SUMS.gpg", "grub.cfg", "md5.mod", "b2sums", "notmd5"), False).items(),
    ],
)
def test_which_files_are_lists(name: str, is_one: bool) -> None:
    assert checksumfiles.is_list(name) is is_one


@pytest.mark.parametrize("text", [b"", b"\n\n", b"what else\n", b"f" * 33 + b"  odd\n", b"\xff\xfe\0" * 100, b"0" * 32])
def test_other_texts_stay_as_they_are(text: bytes) -> None:
    assert checksumfiles.renewed(text, directory="/", value_of=lambda path, algorithm: "x" * 32) == text
