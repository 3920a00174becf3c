"""A thousand machines' boot ISOs served by one process from one of 4 GiB, beside nginx that serves a real copy of it.

Run it by ``python -m benchmarks.bootisos.serving``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from benchmarks import machine
from benchmarks.bootisos.making import large_iso
from benchmarks.bootisos.served import change_for
from benchmarks.images.serving import served as served_by_nginx
from benchmarks.peers import OURS
from lab import cache_directory
from libironic_disk.bootiso import open_iso
from libironic_disk.units import GIB, KIB, MIB

MACHINES: Final = 1000
SECTOR: Final = 2 * KIB
LARGE: Final = MIB
CLIENTS: Final = 4
SECONDS: Final = 5.0
_HOST: Final = "127.0.0.1"
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A server: who, where, and what ISO has a number there."""

    name: str
    port: int
    path: Callable[[int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a side did: seconds to the first bytes, ranges of a sector and of a MiB in a second."""

    name: str
    first: tuple[float, ...]
    sectors: float
    large: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing took: seconds and private memory for all ISOs, memory after serving, bytes of an ISO."""

    port: int
    seconds: float
    memory: int
    inline: int
    size: int


class Connection:
    """A connection that is kept, with as little around it as a client can have."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((_HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(LARGE + 4096)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def range(self, path: str, offset: int, size: int) -> bytes:
        """Return a range.

        Raises:
            SystemExit: the answer is another.
        """
        asked = f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\nRange: bytes={offset}-{offset + size - 1}\r\n\r\n"
        self._socket.sendall(asked.encode())
        filled, end = 0, -1
        view = memoryview(self._buffer)
        while end < 0 or filled < end + size:
            count = self._socket.recv_into(view[filled:])
            if not count:
                raise SystemExit(f"{path}: the answer ended too early")
            filled += count
            if end < 0 and (found := self._buffer.find(_HEAD_END, 0, filled)) >= 0:
                end = found + len(_HEAD_END)
                if not self._buffer.startswith(b"HTTP/1.1 206"):
                    raise SystemExit(f"{path}: {bytes(self._buffer[:end]).decode(errors='replace')}")
        return bytes(view[end : end + size])


def measure(machines: int) -> Iterator[str]:
    """Measure both and give the lines of a report.

    Raises:
        SystemExit: something served isn't what it should be.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="served-", dir=cache)))
        base = large_iso(folder)
        before = _on_disk(folder)
        with _ours(base, machines) as (published, ended):
            _check(base, published, machines)
            ours = _figures(
                Side(name=OURS, port=published.port, path=lambda number: f"/{number}.iso"), published, machines
            )
            resident = ended()
        written = _on_disk(folder) - before
        url = held.enter_context(served_by_nginx(folder))
        port = int(url.rstrip("/").rpartition(":")[2])
        peer = _figures(
            Side(name="nginx, one file", port=port, path=lambda number: f"/{base.name}"), published, machines
        )
    yield f"{machines} ISOs of {published.size / GIB:.2f} GiB of one base, each with three kernel parameters of its own"
    yield ""
    yield f"{'bytes written to the disk':<48}{written:>12}"
    yield f"{'published, ms each':<48}{published.seconds / machines * 1000:>12.2f}"
    yield f"{'private memory, KiB each':<48}{published.memory / machines / KIB:>12.1f}"
    yield f"{'new bytes of an ISO, KiB each':<48}{published.inline / machines / KIB:>12.1f}"
    yield f"{'private memory of the process at the end, MiB':<48}{resident / MIB:>12.1f}"
    yield ""
    yield f"{'':<28}{'first bytes, ms':>24}{'2 KiB ranges/s':>16}{'MiB ranges, MiB/s':>20}"
    for figures in (ours, peer):
        first = sorted(figures.first)
        spread = f"{statistics.median(first) * 1000:.2f} (99 %: {first[len(first) * 99 // 100] * 1000:.2f})"
        yield f"{figures.name:<28}{spread:>24}{figures.sectors:>16.0f}{figures.large:>20.0f}"


@contextmanager
def _ours(base: Path, machines: int) -> Iterator[tuple[Published, Callable[[], int]]]:
    argv = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        sys.executable,
        "-m",
        "benchmarks.bootisos.served",
        str(base),
        str(machines),
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = cast("tuple[IO[str], IO[str]]", (process.stdin, process.stdout))
        url, seconds, memory, inline, size = stdout.readline().split()
        port = int(url.rpartition(":")[2])

        def ended() -> int:
            stdin.write("\n")
            stdin.flush()
            return int(stdout.readline())

        try:
            yield (
                Published(port=port, seconds=float(seconds), memory=int(memory), inline=int(inline), size=int(size)),
                ended,
            )
        finally:
            process.kill()


def _check(base: Path, published: Published, machines: int) -> None:
    """Read parts of some ISOs and hold them against the library's own reading, in which the base is open anew."""
    chance = random.Random(1)  # noqa: S311 - no secret
    with open_iso(base) as iso, Connection(published.port) as connection:
        for number in chance.sample(range(machines), 5):
            patched = iso.patch(parameters=change_for(number))
            for offset in (0, *(chance.randrange(patched.size - LARGE) for _ in range(20)), patched.size - LARGE):
                if connection.range(f"/{number}.iso", offset, LARGE) != patched.read_at(offset, LARGE):
                    raise SystemExit(f"{number}.iso is wrong near {offset}")


def _figures(side: Side, published: Published, machines: int) -> Figures:
    return Figures(
        name=side.name,
        first=tuple(_first(side, number) for number in range(min(machines, 500))),
        sectors=_rate(side, published.size, machines, SECTOR),
        large=_rate(side, published.size, machines, LARGE) * LARGE / MIB,
    )


def _first(side: Side, number: int) -> float:
    """Return the seconds from nothing to the first sector, the connection included."""
    began = time.perf_counter()
    with Connection(side.port) as connection:
        connection.range(side.path(number), 0, SECTOR)
        return time.perf_counter() - began


def _rate(side: Side, size: int, machines: int, length: int) -> float:
    """Return the ranges in a second that some clients get, each at random places of random ISOs."""
    counts = [0] * CLIENTS
    failures: list[BaseException] = []
    until = time.monotonic() + SECONDS

    def ask(client: int) -> None:
        chance = random.Random(client)  # noqa: S311 - no secret
        try:
            with Connection(side.port) as connection:
                while time.monotonic() < until:
                    offset = chance.randrange((size - length) // SECTOR) * SECTOR
                    connection.range(side.path(chance.randrange(machines)), offset, length)
                    counts[client] += 1
        except BaseException as error:
            # A thread that ends so says nothing, and the figure would only be too low.
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / SECONDS


def _on_disk(folder: Path) -> int:
    os.sync()
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def main() -> None:
    """Measure, then print the machine and the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bootisos.serving", description=__doc__)
    parser.add_argument("--machines", type=int, default=MACHINES, help="how many ISOs")
    lines = list(measure(parser.parse_args().machines))
    for name, value in [("date", datetime.date.today().isoformat()), *machine.describe()]:
        print(f"{name:<12} {value}")
    print()
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
