"""What of filesystems.py needs no block device: a plain file holds a file system as well."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk import filesystems
from libironic_disk.errors import DeviceFailed, NotABlockDevice, ProgramFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.process import PACKAGES, Completed
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB

UUID = str(uuid.UUID(int=7, version=4))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "partition"
    with path.open("wb") as opened:
        opened.truncate(16 * MIB)
    return str(path)


def test_the_programs_needed_are_named_once_each_and_have_a_package() -> None:
    assert filesystems.required_tools([]) == ()
    assert filesystems.required_tools([FileSystem.EXT3, FileSystem.EXT2, FileSystem.SWAP]) == ("mke2fs", "mkswap")
    assert set(filesystems.required_tools(FileSystem)) <= set(PACKAGES)


@pytest.mark.parametrize(
    ("label", "made_label"), [("root", "other"), ("root", ""), ("", "other")], ids=["another", "none", "one"]
)
def test_a_program_that_makes_another_label_is_found_out(
    file: str, monkeypatch: pytest.MonkeyPatch, label: str, made_label: str
) -> None:
    run = process.run

    def lies(*argv: str, timeout: float, cancel: Cancellation | None) -> Completed:
        words = [word for word in argv if word not in {"-L", label}]
        return run(*words[:-1], "-L", made_label, words[-1], timeout=timeout, cancel=cancel)

    monkeypatch.setattr(process, "run", lies)
    with pytest.raises(DeviceFailed) as failed:
        filesystems.make(FileSystem.EXT4, file, label=label, uuid=UUID)
    assert failed.value.action == "making ext4 on"
    assert failed.value.reason == f"found [('ext4', '{made_label}', '{UUID}')] afterwards"


def test_a_program_that_does_nothing_is_found_out(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        process, "run", lambda *argv, **options: Completed(argv=argv, exit_code=0, stdout=b"", stderr="")
    )
    for filesystem in FileSystem:
        with pytest.raises(DeviceFailed, match=r"found \[\] afterwards"):
            filesystems.make(filesystem, file, label="", uuid=UUID)


def test_a_file_system_of_another_kind_is_found_out(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = process.run
    monkeypatch.setattr(process, "run", lambda *argv, **options: run("mkswap", "-U", UUID, file, **options))
    with pytest.raises(DeviceFailed, match=r"making ext4 on .* failed: found \[\('swap', '', "):
        filesystems.make(FileSystem.EXT4, file, label="", uuid=UUID)


def test_an_option_that_the_program_refuses_is_told_in_its_own_words(file: str) -> None:
    with pytest.raises(ProgramFailed, match="could not parse UUID"):
        filesystems.make(FileSystem.EXT4, file, label="", uuid="no UUID")
    assert filesystems.read(file) is None


def test_a_label_is_never_taken_for_an_option(file: str) -> None:
    filesystems.make(FileSystem.EXT4, file, label="$(id) `id` ;#", uuid=UUID)
    assert filesystems.read(file) == filesystems.Probed(kind="ext4", label="$(id) `id` ;#", uuid=UUID)


def test_only_block_devices_are_probed_and_what_is_not_there_is_not_read(file: str) -> None:
    with pytest.raises(NotABlockDevice):
        filesystems.probe(file)
    with pytest.raises(DeviceFailed, match="No such file"):
        filesystems.read(f"{file}-gone")


@given(st.text())
def test_udev_s_escapes_are_undone(text: str) -> None:
    encoded = text.encode(errors="surrogatepass")
    # libblkid's rule: a few characters and valid UTF-8 stay, everything else becomes \x and two digits.
    escaped = "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in encoded)
    assert filesystems._unescaped(escaped) == encoded.decode(errors="replace")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [("", ""), ("root", "root"), ("größe", "größe"), (r"a\x20b", "a b"), (r"\x5cx20", r"\x20"), (r"\xff", "\ufffd")],
)
def test_udev_s_escapes_are_undone_once(escaped: str, text: str) -> None:
    assert filesystems._unescaped(escaped) == text
