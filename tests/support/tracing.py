"""What a process, and every program that it starts, asks of the kernel by a path: from strace, whichever library asks.

A worker stays in strace and is given one piece of work after the other, so that its start is paid for once.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

_TRACED = "%file,%network,fsopen,fsmount,move_mount,open_tree,mount_setattr,ptrace,process_vm_writev,init_module,bpf"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<text>.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)", re.DOTALL)
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DIRECTORY = re.compile(r"(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>")
_OPENED = re.compile(r"\d+<((?:[^<>\\]|\\.)*)(?:<((?:block|char) \d+:\d+)>)?>(?:\(deleted\))?")
MARK = "/libironic_disk-mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call as strace writes it."""

    name: str
    arguments: str
    result: str

    @property
    def succeeded(self) -> bool:
        """Whether the kernel did it."""
        return not self.result.startswith(("-1", "?"))

    @property
    def paths(self) -> tuple[str, ...]:
        """The strings among its arguments."""
        return tuple(_STRING.findall(self.arguments))

    @property
    def directory(self) -> str:
        """Of which directory a relative path is one; empty if it has none."""
        match = _DIRECTORY.match(self.arguments)
        return match[1] if match else ""

    @property
    def opened(self) -> str:
        """What was really opened, behind all links; empty if nothing was."""
        match = _OPENED.fullmatch(self.result)
        return match[1] if match else ""

    @property
    def device(self) -> str:
        """Which device was opened, such as ``block 7:0``; empty if none was."""
        match = _OPENED.fullmatch(self.result)
        return match[2] or "" if match else ""

    def __str__(self) -> str:
        return f"{self.name}({self.arguments}) = {self.result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a piece of work ended with, as the worker says, and what it and its programs asked for meanwhile."""

    answer: Mapping[str, Any]
    calls: tuple[Call, ...]
    seconds: float


# What a library that a test has broken on purpose writes outside of a root is the machine's own: it once was its fstab.
_NOTHING_ELSE_CAN_BE_WRITTEN: Final = """
mount --make-rprivate /
for folder in /tmp /run "$TESTS"; do mount --bind "$folder" "$folder"; done
mount -o remount,bind,ro /
cd "$PWD"
exec "$@"
"""


class Worker:
    """A module of the tests' that works in strace: it reads a JSON value a line, and answers each with one.

    Of the machine's own file systems it can write to temporary files alone.
    """

    def __init__(self, module: str, folder: Path, **environment: str) -> None:
        self._log = folder / f"{module}.strace"
        how = ["-f", "-qq", "--seccomp-bpf", "--decode-fds=path,dev", "-s", "4096"]
        how += ["-e", f"trace={_TRACED}", "-e", "signal=none"]
        argv = ["unshare", "--mount", "sh", "-c", _NOTHING_ELSE_CAN_BE_WRITTEN, "sh"]
        argv += ["strace", *how, "-o", str(self._log), "--", sys.executable, "-m", module]
        self._errors = (folder / f"{module}.errors").open("w+")
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env={**os.environ, **environment, "TESTS": str(folder)},
            start_new_session=True,
        )
        self._count = 0
        self._lines: IO[str] | None = None

    def work(self, *, deadline: float = 60.0, **request: object) -> Done:
        """Have it do something, and fail if that isn't done in time."""
        self._count += 1
        began = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"mark": f"{MARK}/{self._count}", **request}) + "\n")
        ready, _, _ = select.select([self._process.stdout], [], [], deadline)
        if not ready:
            # Its answer would be taken for that to the next work.
            os.killpg(self._process.pid, signal.SIGKILL)
        assert ready, f"{request} wasn't done after {deadline} s: something in it blocks"
        answer = self._process.stdout.readline()
        assert answer, f"the worker died: {Path(self._errors.name).read_text()[-4000:]}"
        seconds = time.monotonic() - began
        return Done(answer=json.loads(answer), calls=tuple(self._calls(self._count)), seconds=seconds)

    def close(self) -> None:
        """End it, and all that it started."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._errors.close()
        if self._lines is not None:
            self._lines.close()

    def _calls(self, count: int) -> Iterator[Call]:
        """Read the log from the mark at which the work began to that at which it ended."""
        if self._lines is None:
            self._lines = self._log.open(encoding="utf-8", errors="surrogateescape")
        waiting: dict[str, str] = {}
        is_inside = False
        for line in self._written(self._lines):
            match = _LINE.match(line)
            assert match is not None, line
            text = match["text"]
            if resumed := _RESUMED.match(text):
                text = waiting.pop(match["pid"], "") + resumed["rest"]
            elif text.endswith("<unfinished ...>"):
                waiting[match["pid"]] = text.removesuffix("<unfinished ...>").rstrip()
                continue
            if f'"{MARK}/{count}/end"' in text:
                return
            if f'"{MARK}/{count}/begin"' in text:
                is_inside = True
            elif is_inside and (call := _CALL.match(text)):
                yield Call(**call.groupdict())
            else:
                assert not is_inside or text.startswith(("+++", "---")) or "= ?" in text, text

    def _written(self, lines: IO[str]) -> Iterator[str]:
        deadline = time.monotonic() + 20
        part = ""
        while time.monotonic() < deadline:
            part += lines.readline()
            if part.endswith("\n"):
                yield part[:-1]
                part = ""
            else:
                time.sleep(0.005)
        raise AssertionError("strace didn't write the end of the work")
