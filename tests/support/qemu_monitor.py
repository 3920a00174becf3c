"""QEMU's monitor, from within the machine that it emulates (lab/hotplug.py): QMP on a serial port."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select

from lab.hotplug import MONITOR

Value = str | int | bool | Mapping[str, "Value"] | Sequence["Value"]

_PORT = Path("/dev/virtio-ports", MONITOR)
_SECONDS = 120
_PIECE = 65536


class Refused(Exception):
    """QEMU said no; the text is its own."""


class Monitor:
    """The monitor, for as long as nobody else has it; :func:`monitor` opens it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._read = b""
        # Only the first time since QEMU was started is it needed; then QEMU greets too.
        self._ask("qmp_capabilities", {})

    def run(self, command: str, **arguments: Value) -> object:
        """Run a command, a ``_`` in whose arguments' names is a ``-``, and return what QEMU answers.

        Raises:
            Refused: QEMU didn't do it.
        """
        answer = self._ask(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        if "return" not in answer:
            raise Refused(f"{command} {arguments}: {answer['error']}")
        return answer["return"]

    def _ask(self, command: str, arguments: Mapping[str, Value]) -> dict[str, object]:
        number = time.monotonic_ns()
        os.write(self._port, json.dumps({"execute": command, "arguments": arguments, "id": number}).encode() + b"\n")
        while True:
            # What was said to whoever had the port before, and events, have no such number.
            said: dict[str, object] = json.loads(self._line())
            if said.get("id") == number:
                return said

    def _line(self) -> bytes:
        while b"\n" not in self._read:
            ready, _, _ = select([self._port], [], [], _SECONDS)
            assert ready, f"QEMU said nothing for {_SECONDS} s, after {self._read!r}"
            self._read += os.read(self._port, _PIECE)
        line, self._read = self._read.split(b"\n", 1)
        return line


@contextmanager
def monitor() -> Iterator[Monitor]:
    """Open the monitor, which one process can have at a time."""
    port = os.open(_PORT, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield Monitor(port)
    finally:
        os.close(port)
