"""Tests that run in the test machine (lab/testmachine.py) and are reported here under their own names.

Which ones: all that are selected, with ``--inside``; otherwise those with the marker ``inside``, and, a second time,
what ``also`` names and what skipped on this kernel. Tests with the marker ``full``, wherever they run, are deselected
unless ``--full`` or ``--inside`` asks for them. One machine runs all of them, after the host's own tests, or as many as
``--machines`` says, each those of other files. Nothing is judged here: the machine's pytest writes its reports to a
shared file as it makes them, and they are passed on as they are. But for a skip, which proves nothing: there it is a
failure.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.testmachine import SHARE, RunningMachine, running
from tests.support import kernellog

OPTION = "--inside"
FULL = "--full"
MACHINES = "--machines"
_SHARE = "INSIDE_SHARE"
# In the shared folder: the ids of the tests to run, a line each, and what became of them.
_TESTS, _RESULTS = "tests", "results"
# How many times longer a test may take in an emulated machine.
_SLOWER = 10
_BOOT = 120
_SHOWN = 4000


def is_inside() -> bool:
    """Whether this is the machine's pytest."""
    return _SHARE in os.environ


def patience(seconds: float) -> float:
    """Return how long to wait for what takes so long on a slow host: in an emulated machine it is slower."""
    return seconds * _SLOWER if is_inside() else seconds


def add_options(parser: pytest.Parser) -> None:
    """Add the options that say what runs, and where."""
    parser.addoption(OPTION, action="store_true", help="run all that is selected in the test machine")
    parser.addoption(FULL, action="store_true", help="run the tests with the marker full too")
    parser.addoption(MACHINES, type=int, default=1, metavar="COUNT", help="how many test machines share the tests")


def plugin(also: Sequence[str]) -> Outside | Reporter:
    """Return what this process's pytest needs; ``also`` are ids of tests without their parameters."""
    if is_inside():
        return Reporter(Path(os.environ[_SHARE]))
    return Outside(also)


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def _name_markers(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "inside: runs in the test machine, which has a whole kernel")
    config.addinivalue_line(
        "markers", f"full: takes minutes, or proves again what another test of its kind does; wants {FULL} or {OPTION}"
    )


class Reporter:
    """In the machine: runs the tests of the list, and writes down what happens, one JSON value a line."""

    def __init__(self, share: Path) -> None:
        self._wanted = frozenset((share / _TESTS).read_text().splitlines())
        self._results = share / _RESULTS
        self._kernel = kernellog.KernelLog(kernellog.PATH)
        self._config: pytest.Config

    def pytest_configure(self, config: pytest.Config) -> None:
        """Remember the configuration, which knows how to write a report."""
        self._config = config
        _name_markers(config)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what isn't on the list, and give every test more time."""
        items[:] = [item for item in items if item.nodeid in self._wanted]
        for item in items:
            item.add_marker(pytest.mark.timeout(_limit(item) * _SLOWER), append=False)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test begins."""
        self._kernel.begin(nodeid)
        self._write("started", nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show what the kernel said lately, if the test failed: a disk that is gone is explained nowhere else."""
        report = yield
        if report.failed:
            report.sections.append(("The machine's kernel, at last", self._kernel.end()))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down a report."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._write("report", report.nodeid, data)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say which test is done."""
        self._write("finished", nodeid)

    def _write(self, event: str, test: str, data: object = None) -> None:
        with self._results.open("a") as file:
            file.write(json.dumps([event, test, data]) + "\n")


class InsideTest(pytest.Item):
    """Stands here for a test that the machine runs."""

    @functools.cached_property
    def inner(self) -> str:
        """The test's id in the machine."""
        return self.stash[_INNER].nodeid

    def runtest(self) -> None:
        """Nothing runs here."""
        raise NotImplementedError

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Return where the test is."""
        return self.stash[_INNER].reportinfo()


_INNER = pytest.StashKey[pytest.Item]()


def _again(item: pytest.Item) -> InsideTest:
    """Return what stands for a test that runs here too."""
    name, bracket, values = item.name.partition("[")
    return _inside(item, f"{name}[{values[:-1]}-inside]" if bracket else f"{name}[inside]")


def _inside(item: pytest.Item, name: str) -> InsideTest:
    assert item.parent is not None
    test: InsideTest = InsideTest.from_parent(item.parent, name=name)
    test.stash[_INNER] = item
    test.own_markers.extend(item.own_markers)
    test.keywords.update(item.keywords)
    test.add_marker("machine")
    # The machine's pytest watches the time.
    test.add_marker(pytest.mark.timeout(0), append=False)
    return test


class Outside:
    """On the host: has the machine run its tests, and passes on what it reports."""

    def __init__(self, also: Sequence[str]) -> None:
        self._also = also
        self._stack = ExitStack()
        # By the files of the tests.
        self._runs: Mapping[str, Run] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        """Name the markers."""
        _name_markers(config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Put those for the machine at the end; before -m and -k select."""
        here = []
        inside: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        has_all = config.getoption(OPTION) or config.getoption(FULL)
        for item in items:
            if item.get_closest_marker("full") and not has_all:
                left_out.append(item)
                continue
            if config.getoption(OPTION) or item.get_closest_marker("inside"):
                inside.append(_inside(item, item.name))
                continue
            here.append(item)
            if item.nodeid.partition("[")[0] in self._also:
                inside.append(_again(item))
        items[:] = here + inside
        if left_out:
            config.hook.pytest_deselected(items=left_out)

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Pass on a machine's reports of a test; the first one boots all machines."""
        if not isinstance(item, InsideTest):
            return None
        if not self._runs:
            self._runs = self._start([test for test in item.session.items if isinstance(test, InsideTest)])
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._runs[_file(item.inner)].reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Have the machine run a test on loop devices that skips here."""
        report = yield
        items = item.session.items
        if _is_skip(report) and item.get_closest_marker("loopdevice"):
            inside = (test.inner for test in items if isinstance(test, InsideTest))
            if item.nodeid not in inside:
                # pytest goes on until the list ends, and the machine hasn't started.
                items.append(_again(item))
        return report

    def pytest_sessionfinish(self) -> None:
        """Turn the machines off."""
        self._stack.close()

    def _start(self, tests: Sequence[InsideTest]) -> Mapping[str, Run]:
        config = tests[0].config
        limit = max(_limit(test.stash[_INNER]) for test in tests) * _SLOWER + _BOOT
        runs: dict[str, Run] = {}
        for names in _shared_out(dict.fromkeys(test.inner for test in tests), config.getoption(MACHINES)):
            files = dict.fromkeys(map(_file, names))
            argv = [
                *("env", f"{_SHARE}={SHARE}", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("--no-summary", "--continue-on-collection-errors"),
                # What passed tests leave would lie in the memory of the machine.
                *("-o", "tmp_path_retention_policy=failed"),
                *files,
            ]
            shared = {_TESTS: "\n".join(names), _RESULTS: ""}
            machine = self._stack.enter_context(running(argv, files=shared, has_bays=True))
            runs |= dict.fromkeys(files, Run(config, machine, limit))
        return runs


def _file(test: str) -> str:
    return test.partition("::")[0]


def _shared_out(tests: Iterable[str], count: int) -> list[list[str]]:
    """Share tests out by files, which have fixtures in common; each file goes to who has the fewest tests by then."""
    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for test in tests:
        by_file[_file(test)].append(test)
    shares: list[list[str]] = [[] for _ in range(count)]
    for found in by_file.values():
        min(shares, key=len).extend(found)
    return [share for share in shares if share]


def _is_skip(report: pytest.TestReport) -> bool:
    return report.skipped and not hasattr(report, "wasxfail")


def _refuse_skip(report: pytest.TestReport) -> None:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"A skip proves nothing, and in this machine everything runs ({why})."


class Run:
    """The machine's reports, as they come."""

    def __init__(self, config: pytest.Config, machine: RunningMachine, limit: float) -> None:
        self._config = config
        self._machine = machine
        self._limit = limit
        self._results = self._machine.share.joinpath(_RESULTS).open()
        self._reports: defaultdict[str, list[pytest.TestReport]] = defaultdict(list)
        self._finished: set[str] = set()
        self._line = ""
        self._begun = ""
        self._heard = time.monotonic()
        self._over = ""
        self._is_told = False

    def reports(self, item: InsideTest) -> Iterator[pytest.TestReport]:
        """Wait until the machine has run a test; give its reports, or one of what became of the machine."""
        # While others were waited for, nobody listened.
        self._heard = time.monotonic()
        while item.inner not in self._finished and not self._over:
            self._read()
        found = self._reports.pop(item.inner, [])
        if item.inner not in self._finished:
            found.append(self._lost(item))
        for report in found:
            report.nodeid, report.location = item.nodeid, item.location
            if _is_skip(report):
                _refuse_skip(report)
            yield report

    def _read(self) -> None:
        was_on = self._machine.console.is_on
        self._line += self._results.readline()
        if self._line.endswith("\n"):
            self._note(*json.loads(self._line))
            self._line = ""
        elif not was_on:
            self._over = "The machine ended"
        elif time.monotonic() > self._heard + self._limit:
            self._over = f"The machine reported nothing for {self._limit:g} s and was turned off"
            self._machine.console.turn_off()
        else:
            time.sleep(0.05)

    def _note(self, event: str, test: str, data: dict[str, object]) -> None:
        self._heard = time.monotonic()
        match event:
            case "started":
                self._begun = test
            case "report":
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
                self._reports[test].append(report)
            case "finished":
                self._finished.add(test)
                self._begun = ""

    def _lost(self, item: InsideTest) -> pytest.TestReport:
        """Make the report of a test that the machine has no result for."""
        what = f"{self._over}{f' while it ran {self._begun}' if self._begun else ''}; it gave no result of this test"
        if not self._is_told:
            what += f". The end of what its console said:\n{self._machine.console.transcript[-_SHOWN:]}"
            self._is_told = True
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed",
            longrepr=what,
            when="call",
        )
