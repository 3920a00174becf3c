"""The gateway to programs, with programs that are really run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from libironic_disk.errors import Cancelled, ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.process import Limits
from libironic_disk.units import MIB

# Far more than any of these programs takes.
LONG = 60.0


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may have ended since it was listed.
        with suppress(FileNotFoundError):
            found.update((task / "children").read_text().split())
    return found


def descriptors() -> set[str]:
    """What this process has open."""
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No zombie, no open pipe and no thread remains of anything that a test ran."""
    before = children(), descriptors(), threading.active_count()
    yield
    assert (children(), descriptors(), threading.active_count()) == before


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_program_gives_what_it_wrote() -> None:
    done = process.run("sh", "-c", "echo out; echo err >&2", timeout=LONG)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", "err\n", 0)
    assert done.argv == ("sh", "-c", "echo out; echo err >&2")


def test_no_shell_reads_the_arguments() -> None:
    words = ("$HOME", "; echo x", "`id`", "a b", "*", "größe", "'\"")
    assert process.run("printf", "%s\\n", *words, timeout=LONG).stdout.decode().splitlines() == list(words)


def test_output_is_bytes_as_they_came() -> None:
    assert process.run("printf", r"\377\000\n", timeout=LONG).stdout == b"\xff\0\n"


def test_another_status_is_an_error_with_the_program_s_own_words() -> None:
    with pytest.raises(ProgramFailed) as failed:
        process.run("sh", "-c", "echo out; echo 'no such disk' >&2; exit 3", timeout=LONG)
    assert (failed.value.exit_code, failed.value.stderr) == (3, "no such disk\n")
    assert str(failed.value).endswith("ended with status 3: no such disk")


def test_a_status_that_means_success_is_none() -> None:
    assert process.run("sh", "-c", "exit 2", ok=(0, 2), timeout=LONG).exit_code == 2
    with pytest.raises(ProgramFailed):
        process.run("true", ok=(1,), timeout=LONG)


def test_a_program_that_dies_of_a_signal_failed() -> None:
    with pytest.raises(ProgramFailed) as failed:
        process.run("sh", "-c", "kill -TERM $$", timeout=LONG)
    assert failed.value.exit_code == -15


def test_the_last_words_are_kept_and_not_the_first_million() -> None:
    with pytest.raises(ProgramFailed) as failed:
        process.run("sh", "-c", "yes chatter | head -c 1000000 >&2; echo the reason >&2; exit 1", timeout=LONG)
    assert failed.value.stderr.endswith("the reason\n")
    assert len(failed.value.stderr) == 8192


def test_words_that_are_no_utf8_are_kept_as_well_as_possible() -> None:
    assert process.run("sh", "-c", r"printf 'gr\366\337e' >&2", timeout=LONG).stderr == "gr\ufffd\ufffde"


def test_the_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    lines = process.run("env", environment={"MTOOLSRC": "/dev/null"}, timeout=LONG).stdout.decode().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert found.keys() == {"LC_ALL", "PATH", "MTOOLSRC"}
    assert (found["LC_ALL"], found["MTOOLSRC"]) == ("C", "/dev/null")


def test_the_caller_s_path_comes_first_and_sbin_is_always_on_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "mke2fs"
    own.write_text("#!/bin/sh\necho own\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process.run("mke2fs", timeout=LONG).stdout == b"own\n"
    process.require(["mkswap", "losetup"])
    monkeypatch.delenv("PATH")
    process.require(["mkswap", "losetup"])


def test_standard_input_is_closed_unless_there_is_something_to_read() -> None:
    assert process.run("cat", timeout=LONG).stdout == b""
    assert process.run("cat", stdin=b"", timeout=LONG).stdout == b""
    large = os.urandom(3 * MIB)
    assert process.run("cat", stdin=large, timeout=LONG).stdout == large


def test_a_program_need_not_read_what_it_is_given() -> None:
    assert process.run("true", stdin=bytes(MIB), timeout=LONG).exit_code == 0


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_search_path", lambda: "/nonexistent")
    with pytest.raises(ToolMissing) as missing:
        process.run("mkfs.xfs", "/dev/null", timeout=LONG)
    assert (missing.value.tool, missing.value.package) == ("mkfs.xfs", "xfsprogs")
    with pytest.raises(ToolMissing, match=r"^mkfs\.btrfs is not installed; it comes with the package btrfs-progs$"):
        process.require(["mkfs.btrfs", "mke2fs"])


def test_a_program_that_nobody_packages_is_missing_by_its_own_name() -> None:
    with pytest.raises(ToolMissing, match="no-such-program-at-all"):
        process.run("no-such-program-at-all", timeout=LONG)


def test_what_can_not_be_executed_failed(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF, but no program")
    program.chmod(0o755)
    with pytest.raises(ProgramFailed, match="Exec format error") as failed:
        process.run(str(program), timeout=LONG)
    assert failed.value.exit_code == 126


@pytest.mark.parametrize(
    "script",
    ["echo $$ >&2; exec sleep 30", "echo $$ >&2; sleep 30 & echo $! >&2; wait", "echo $$ >&2; sleep 30 & echo $! >&2"],
)
def test_a_deadline_kills_a_program_and_whatever_it_started(script: str) -> None:
    began = time.monotonic()
    with pytest.raises(ProgramTimedOut) as late:
        process.run("sh", "-c", script, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert late.value.timeout == 0.3
    pids = [int(word) for word in late.value.stderr.split()]
    assert len(pids) == script.count(">&2")
    # The last one, if it lost its parent, is reaped by somebody else in a moment.
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("script", ["exec sleep 30", "sleep 30 & wait", "trap '' TERM INT HUP; sleep 30"])
def test_cancelling_kills_a_program_at_once(script: str) -> None:
    switch = Cancellation()
    thrower = threading.Timer(0.2, switch.cancel)
    thrower.start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="cancelled during: `sh`"):
        process.run("sh", "-c", script, timeout=LONG, cancel=switch)
    assert time.monotonic() - began < 1.2
    thrower.join()


def test_what_is_cancelled_beforehand_is_killed_too() -> None:
    switch = Cancellation()
    switch.cancel()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        process.run("sleep", "30", timeout=LONG, cancel=switch)
    assert time.monotonic() - began < 1


def test_a_program_that_fails_by_itself_was_not_cancelled() -> None:
    with pytest.raises(ProgramFailed):
        process.run("false", timeout=LONG, cancel=Cancellation())


def test_a_watcher_sees_the_running_program() -> None:
    seen: list[tuple[int, bool]] = []
    process.run("sleep", "0.35", timeout=LONG, watch=lambda pid: seen.append((pid, is_alive(pid))))
    assert len(seen) >= 2
    assert len({pid for pid, _ in seen}) == 1
    assert all(alive for _, alive in seen)


def test_what_a_watcher_raises_is_raised_when_the_program_has_ended() -> None:
    began = time.monotonic()

    def watch(pid: int) -> None:
        raise OSError(pid)

    with pytest.raises(OSError, match=r"^\d+$"):
        process.run("sleep", "0.4", timeout=LONG, watch=watch)
    assert time.monotonic() - began >= 0.4


def test_limits_are_set_before_the_program_starts() -> None:
    limits = Limits(address_space=512 * MIB, cpu_seconds=7)
    said = process.run("bash", "-c", "ulimit -v; ulimit -t; echo $$", timeout=LONG, limits=limits).stdout.split()
    assert said[:2] == [b"524288", b"7"]
    assert process.run("env", timeout=LONG, limits=limits).stdout.count(b"\n") == 2


def test_a_program_that_wants_more_memory_than_its_limit_fails() -> None:
    with pytest.raises(ProgramFailed):
        process.run(
            "python3", "-c", "bytearray(1 << 30)", timeout=LONG, limits=Limits(address_space=512 * MIB, cpu_seconds=60)
        )


def test_a_program_that_spins_is_stopped_by_its_limit() -> None:
    began = time.monotonic()
    with pytest.raises(ProgramFailed) as failed:
        process.run(
            "sh", "-c", "while :; do :; done", timeout=LONG, limits=Limits(address_space=512 * MIB, cpu_seconds=1)
        )
    assert failed.value.exit_code < 0
    assert time.monotonic() - began < 20


def test_a_limited_program_is_killed_by_its_deadline_too() -> None:
    with pytest.raises(ProgramTimedOut):
        process.run("sleep", "30", timeout=0.8, limits=Limits(address_space=512 * MIB, cpu_seconds=60))


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """What runs in the background of a shell has interrupts ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_kills_the_program_and_goes_on() -> None:
    pids: list[int] = []

    def interrupt(pid: int) -> None:
        if not pids:
            pids.append(pid)
            os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.run("sleep", "30", timeout=LONG, watch=interrupt)
    assert time.monotonic() - began < 5
    assert not is_alive(pids[0])


def test_many_threads_run_programs_of_their_own_at_once() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(5):
            word = f"{number}-{turn}"
            try:
                done = process.run("cat", stdin=word.encode() * 20_000, timeout=LONG, cancel=Cancellation())
                if done.stdout != word.encode() * 20_000:
                    wrong.append(word)
                process.run("sh", "-c", f"echo {word} >&2; exit {number + 1}", timeout=LONG)
                wrong.append("no error")
            except ProgramFailed as failed:
                if (failed.exit_code, failed.stderr) != (number + 1, f"{word}\n"):
                    wrong.append(failed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_every_program_has_a_package() -> None:
    assert all(package for package in process.PACKAGES.values())
    process.require(process.PACKAGES)


def sleeping_child(pid: int) -> str:
    """Return the pid of a process's child that is sleep; empty if it has none. Imports have children that soon end."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text() == "sleep\n":
                return child
    return ""


def test_a_program_dies_with_the_process_that_started_it() -> None:
    script = "from libironic_disk.machine import process; process.run('sleep', '600', timeout=600)"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        try:
            deadline = time.monotonic() + 20
            while not (child := sleeping_child(parent.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            parent.kill()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_without_descriptors_costs_none() -> None:
    """Python before 3.12 loses the pipes that it has when there is no descriptor for the next one."""
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = max(int(name) for name in before)
    with ExitStack() as stack:
        # A limit is one of numbers: those that are free below it have to be taken.
        while (filling := os.open(os.devnull, os.O_RDONLY)) <= last:
            stack.callback(os.close, filling)
        os.close(filling)
        for more in range(8):
            resource.setrlimit(resource.RLIMIT_NOFILE, (filling + more, limits[1]))
            try:
                with pytest.raises(ProgramFailed, match="Too many open files"):
                    process.run("true", timeout=10)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
