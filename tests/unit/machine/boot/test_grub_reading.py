"""What is made of grub-fstest's answers; its real ones need root: tests/loopdevices/test_grub_reading.py."""

from __future__ import annotations

import os
import signal
import zlib
from pathlib import Path

import pytest

from libironic_disk import grub
from libironic_disk.errors import (
    BootImpossible,
    Cancelled,
    DeviceFailed,
    DiskError,
    PathFailed,
    ProgramFailed,
    ProgramTimedOut,
    ToolMissing,
)
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.boot import grub_reading
from libironic_disk.machine.process import Completed
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind

MENU = "/boot/grub/grub.cfg"
KERNEL = "/boot/vmlinuz-6.1"


class Answers:
    """In place of the gateway: tells its version, and reads each file as it was told to or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes | DiskError]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []
        self.options: dict[str, object] = {}
        monkeypatch.setattr(process, "run", self.run)
        monkeypatch.setattr(process, "require", lambda tools: None)

    def run(self, *argv: str, **options: object) -> Completed:
        """Answer as the program would."""
        if argv == ("grub-fstest", "--version"):
            return Completed(argv=argv, exit_code=0, stdout=b"grub-fstest (GRUB) 2.06-13+deb12u2\n", stderr="")
        self.asked.append(argv)
        self.options = options
        answer = self.answers[argv[-1].removeprefix("(loop0)")]
        if isinstance(answer, DiskError):
            raise answer
        return Completed(argv=argv, exit_code=0, stdout=answer, stderr="")


@pytest.fixture
def node(tmp_path: Path) -> str:
    """Something that can be opened."""
    path = tmp_path / "node"
    path.touch()
    return str(path)


def failed(exit_code: int, stderr: str) -> ProgramFailed:
    return ProgramFailed(argv=("setpriv",), stderr=stderr, exit_code=exit_code)


def test_equal_sums_pass_and_grub_gets_no_rights(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Answers(monkeypatch, {MENU: b"0000002a\n", KERNEL: b"f08a810b\n"})
    cancel = Cancellation()
    grub_reading.check(node, FileSystem.EXT4, {MENU: 42, KERNEL: 0xF08A810B}, cancel=cancel)
    assert [argv[-4:] for argv in said.asked] == [
        ("grub-fstest", node, "crc", f"(loop0){MENU}"),
        ("grub-fstest", node, "crc", f"(loop0){KERNEL}"),
    ]
    assert all(argv[:2] == ("setpriv", "--reuid=65534") for argv in said.asked)
    assert said.options["cancel"] is cancel
    assert isinstance(said.options["limits"], process.Limits)
    assert said.options["timeout"]


def test_another_content_is_found(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Answers(monkeypatch, {MENU: b"0000002a\n", KERNEL: b"f08a810c\n"})
    with pytest.raises(BootImpossible) as caught:
        grub_reading.check(node, FileSystem.XFS, {MENU: 42, KERNEL: 0xF08A810B})
    assert str(caught.value) == (
        f"{node} could not boot: GRUB 2.06-13+deb12u2 misreads {KERNEL} in the image's xfs: "
        "its CRC-32 is f08a810b, not f08a810c"
    )
    assert len(said.asked) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            failed(1, "grub-fstest: error: cannot open `x': unknown filesystem.\n"),
            "cannot open `x': unknown filesystem",
        ),
        (failed(-11, ""), "grub-fstest ended with status -11"),
        (failed(-signal.SIGXCPU, ""), "grub-fstest was not through after 60 seconds"),
    ],
)
def test_what_grub_can_not_read_is_told_in_its_words(
    node: str, monkeypatch: pytest.MonkeyPatch, error: DiskError, words: str
) -> None:
    said = Answers(monkeypatch, {MENU: error, KERNEL: b""})
    with pytest.raises(BootImpossible) as caught:
        grub_reading.check(node, FileSystem.EXT4, {MENU: 42, KERNEL: 42})
    assert caught.value.device == node
    assert f"GRUB 2.06-13+deb12u2 can't read {MENU} from the image's ext4 (" in caught.value.reason
    assert f"{words}); make the image" in caught.value.reason
    assert caught.value.__cause__ is error
    assert len(said.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        failed(127, "setpriv: apply capabilities: Operation not permitted"),
        failed(-9, ""),
        ProgramTimedOut(argv=("setpriv",), stderr="", timeout=120),
        Cancelled(during="`setpriv`"),
        ToolMissing(tool="setpriv", package="util-linux"),
    ],
)
def test_what_is_no_fault_of_the_image_stays_what_it_is(
    node: str, monkeypatch: pytest.MonkeyPatch, error: DiskError
) -> None:
    Answers(monkeypatch, {MENU: error})
    with pytest.raises(type(error)) as caught:
        grub_reading.check(node, FileSystem.EXT4, {MENU: 42})
    assert caught.value is error


def test_a_device_that_went_away(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Answers(monkeypatch, {})
    with pytest.raises(DeviceFailed, match=r"opening .* failed: No such file"):
        grub_reading.check(f"{node}p1", FileSystem.EXT4, {MENU: 42})


@pytest.mark.parametrize("content", [b"\0", b"menu", os.urandom(3_000_000)], ids=["byte", "short", "long"])
def test_sums_are_those_of_zlib(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(content)
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        tree = RootDir(descriptor, tree="/dev/test")
        assert grub_reading.checksums(tree, ["/file"]) == {"/file": zlib.crc32(content)}
        assert tree.crc32("/file", limit=len(content)) == zlib.crc32(content)
        monkeypatch.setattr(grub_reading, "_FILE_LIMIT", len(content) - 1)
        with pytest.raises(PathFailed, match=f"more than {len(content) - 1} bytes"):
            grub_reading.checksums(tree, ["/file"])
        with pytest.raises(PathFailed, match="No such file"):
            grub_reading.checksums(tree, ["/none"])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("firmware", list(Firmware))
@pytest.mark.parametrize(
    ("tool", "package"), [("grub-fstest", "grub-common"), ("setpriv", "util-linux"), ("prlimit", "util-linux")]
)
def test_a_missing_tool_is_found_in_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, firmware: Firmware, tool: str, package: str
) -> None:
    for name in {*process.PACKAGES} - {tool}:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        grub.plan_boot(
            device="/dev/test",
            firmware=firmware,
            architecture=Architecture.X86_64,
            table=TableKind.GPT,
            sector_size=512,
            first_partition_start=1 << 20,
            bios_boot=ByteRange(1 << 20, 2 << 20),
            has_esp=True,
        )
    assert (caught.value.tool, caught.value.package) == (tool, package)
