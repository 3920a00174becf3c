"""The fuzzer finds what is to be found, and a short run of it finds nothing in the decoder; a long one: make fuzz."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent.parent
_FOUND = 77  # libFuzzer's exit status


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=TREE, capture_output=True, text=True, check=False
    )


def places(home: Path) -> list[str]:
    return ["--corpus", str(home / "corpus"), "--findings", str(home / "findings")]


def test_a_planted_defect_is_found_kept_and_replayed(tmp_path: Path) -> None:
    found = run("planted", "--runs", "1000000", "--seed", "1", *places(tmp_path))
    assert found.returncode == _FOUND, found.stderr[-2000:]
    saved = sorted((tmp_path / "findings").iterdir())
    assert {path.read_bytes() for path in saved} == {b"QFI\xfb"}
    replayed = run("planted", "--replay", str(saved[0]))
    assert replayed.returncode == 1
    assert "AssertionError: the planted defect" in replayed.stderr


@pytest.mark.timeout(300)
def test_no_mutated_image_is_read_otherwise_than_by_qemu_img(tmp_path: Path) -> None:
    quiet = run("qcow2", "--runs", "1500", "--seed", "20261125", *places(tmp_path))
    assert quiet.returncode == 0, quiet.stderr[-4000:]
    assert not list((tmp_path / "findings").iterdir())
    # Coverage guides it: what reached new code was kept beside the seeds.
    assert len(list((tmp_path / "corpus").iterdir())) > 100
    assert "as qemu-img" in quiet.stderr
    assert "ImageRefused" in quiet.stderr
