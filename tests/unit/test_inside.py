"""What the test machine runs is reported as if it ran here; the machine of these tests is a process of this host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.kernellog import KernelLog

CHECKOUT = Path(__file__).parents[2]
CONFTEST = """\
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lab.qemu import Machine
from tests.support import inside

inside.kernellog.PATH = Path(__file__).with_name("kmsg")


@contextmanager
def running(argv, *, files, has_bays):
    with tempfile.TemporaryDirectory() as share:
        for name, text in files.items():
            Path(share, name).write_text(text)
        argv = [word.replace(str(inside.SHARE), share) for word in argv]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
            yield inside.RunningMachine(console=Machine(process, process.stdout), share=Path(share), disks={})


def pytest_addoption(parser):
    inside.add_options(parser)


def pytest_configure(config):
    inside.running = running
    config.addinivalue_line("markers", "loopdevice")
    config.addinivalue_line("markers", "machine")
    config.pluginmanager.register(inside.plugin(("test_it.py::test_both",)))
"""
TESTS = """\
import os
import pytest
from tests.support.inside import is_inside

@pytest.fixture
def broken():
    yield
    raise OSError("not released")

@pytest.mark.inside
@pytest.mark.parametrize("value", [1, 2])
def test_there(value): assert is_inside() and value == 1

@pytest.mark.inside
def test_teardown(broken): pass

@pytest.mark.inside
def test_skips_there(): pytest.skip("cannot")

@pytest.mark.inside
@pytest.mark.xfail(reason="known")
def test_expected(): assert False

@pytest.mark.inside
@pytest.mark.full
def test_long(): assert is_inside()

@pytest.mark.loopdevice
def test_skips_here():
    if not is_inside(): pytest.skip("an old kernel")

@pytest.mark.parametrize("value", [1])
def test_both(value): pass

def test_here(): assert not is_inside()

@pytest.mark.full
def test_long_here(): assert not is_inside()
"""
THERE = {
    "PASSED test_there[1]",
    "FAILED test_there[2] - assert (True and 2 == 1)",
    "PASSED test_teardown",
    "ERROR test_teardown - OSError: not released",
    "FAILED test_skips_there - A skip proves nothing, and in this machine everyt...",
    "XFAIL test_expected - known",
}
HERE = THERE | {
    "PASSED test_here",
    "PASSED test_both[1]",
    "PASSED test_both[1-inside]",
    "SKIPPED [1] test_it.py:30: an old kernel",
    "PASSED test_skips_here[inside]",
}


def run(folder: Path, tests: str, *options: str) -> tuple[set[str], str]:
    """Run pytest; return its summary's lines on tests, without the file's name, and all that it printed."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(tests)
    (folder / "kmsg").write_text("6,1,900000,-;before the first test\n")
    (folder / "pytest.ini").write_text("[pytest]\ntimeout = 60\n")
    # Where CI is set, pytest shortens no line and says everything twice.
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    environment = inherited | {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "90"}
    argv = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
    said = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout
    summary = said.partition("short test summary info")[2]
    return {
        "".join(found) for found in re.findall(r"^([A-Z]+ (?=test|\[1\]))(?:test_it.py::)?(.*)$", summary, re.M)
    }, said


def test_what_the_machine_reports_is_reported_under_the_tests_own_name(tmp_path: Path) -> None:
    summary, said = run(tmp_path, TESTS)
    assert summary == HERE
    assert ", 2 deselected" in said


def test_the_long_ones_run_when_asked_for_and_are_deselected_otherwise(tmp_path: Path) -> None:
    summary, said = run(tmp_path, TESTS, "--full")
    assert summary == HERE | {"PASSED test_long", "PASSED test_long_here"}
    assert "deselected" not in said
    summary, said = run(tmp_path, TESTS, "-k", "test_long or test_here")
    assert summary == {"PASSED test_here"}
    assert re.search(r"1 passed, \d+ deselected", said)


def test_machines_share_the_tests_by_files(tmp_path: Path) -> None:
    """Each of them is a process here, and tests of one file never run in two."""
    noted = tmp_path / "noted"
    noted.mkdir()
    test = f"""\
import os
import pytest

@pytest.mark.inside
@pytest.mark.parametrize("value", range(3))
def test_where(value):
    with open(os.path.join({str(noted)!r}, os.path.basename(__file__)), "a") as file:
        print(os.getpid(), file=file)
    assert value < 2
"""
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(test)
    summary, said = run(tmp_path, test, "--machines", "2")
    assert "FAILED test_where[2] - assert 2 < 2" in summary
    assert "3 failed, 6 passed" in said
    machines = {file.name: set(file.read_text().split()) for file in noted.iterdir()}
    assert machines.keys() == {"test_a.py", "test_b.py", "test_it.py"}
    assert {len(each) for each in machines.values()} == {1}
    assert len(set.union(*machines.values())) == 2


def test_all_that_is_selected_runs_there_when_asked_for(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, TESTS, "--inside")
    assert summary == THERE | {
        "PASSED test_long",
        "PASSED test_skips_here",
        "PASSED test_both[1]",
        "FAILED test_here - assert not True",
        "FAILED test_long_here - assert not True",
    }


def test_what_a_machine_that_ends_has_not_run_fails_and_says_when_it_ended(tmp_path: Path) -> None:
    tests = ("import os", "def test_1(): pass", "def test_2(): os._exit(0)", "def test_3(): pass", "")
    summary, said = run(tmp_path, "\n".join(tests), "--inside")
    assert {line.split(" - ")[0] for line in summary} == {"PASSED test_1", "FAILED test_2", "FAILED test_3"}
    assert said.count("The machine ended while it ran test_it.py::test_2; it gave no result of this test") == 2
    assert said.count("The end of what its console said") == 1


def test_what_the_kernel_said_stands_in_the_report_of_a_test_that_failed_and_in_no_other(tmp_path: Path) -> None:
    tests = (
        "from pathlib import Path",
        "def says(text):",
        "    with Path('kmsg').open('a') as log: log.write(text)",
        "def test_quiet(): pass",
        "def test_good(): says('6,2,1500000,-;during the good one\\n SUBSYSTEM=block\\n')",
        "def test_bad():",
        "    says('3,3,2000000,-;nvme nvme0: Device not ready; aborting\\n')",
        "    raise OSError",
        "",
    )
    _, said = run(tmp_path, "\n".join(tests), "--inside")
    assert said.count("The machine's kernel, at last") == 1
    shown = said.partition("The machine's kernel, at last")[2].splitlines()[1:]
    assert shown[: shown.index("[2.000] nvme nvme0: Device not ready; aborting") + 1] == [
        "[0.900] before the first test",
        "-- test_it.py::test_good",
        "[1.500] during the good one",
        "-- test_it.py::test_bad",
        "[2.000] nvme nvme0: Device not ready; aborting",
    ]


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("".join(f"6,{number},{number}000000,-;line {number}\n" for number in range(100)))
    log = KernelLog(path)
    log.begin("test_it.py::test_1")
    lines = log.end().splitlines()
    assert len(lines) == 40
    assert lines[-2:] == ["[99.000] line 99", "-- test_it.py::test_1"]
