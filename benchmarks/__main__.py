"""Run the benchmarks and print what they found; as root, because a file becomes a disk through a loop device."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from benchmarks import machine
from benchmarks.bootisos.measuring import measure as measure_bootisos
from benchmarks.bootisos.measuring import report as report_bootisos
from benchmarks.images.measuring import measure as measure_images
from benchmarks.images.reporting import report as report_images
from benchmarks.images.works import WORKS
from benchmarks.partitioning.measuring import measure as measure_partitioning
from benchmarks.partitioning.measuring import report as report_partitioning
from libironic_disk.units import MIB


class Benchmark(StrEnum):
    """What can be measured, by the words of the command line."""

    PARTITIONING = "partitioning"
    IMAGES = "images"
    BOOT_ISOS = "bootisos"


_ROUNDS: Final = {Benchmark.PARTITIONING: 15, Benchmark.IMAGES: 5, Benchmark.BOOT_ISOS: 5}


def main() -> None:
    """Measure, then print the machine and the figures."""
    arguments = _arguments()
    if os.geteuid() != 0:
        raise SystemExit("loop devices need root: sudo make bench")
    # Or a `kill` would leave the loop device behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for benchmark in [arguments.benchmark] if arguments.benchmark else Benchmark:
        about = [("date", datetime.date.today().isoformat()), *machine.describe()]
        lines = list(_measured(benchmark, arguments))
        print()
        for name, value in about:
            print(f"{name:<12} {value}")
        print()
        for line in lines:
            print(line)
        print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "benchmark", nargs="?", type=Benchmark, choices=list(Benchmark), help="all, unless one is named"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each side; the first comes on top")
    parser.add_argument("--only", default="", metavar="TEXT", help="images: the works with this text in their name")
    parser.add_argument("--size", type=int, default=4096, metavar="MIB", help="images: the disk, 35 %% of it files")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("at least one round")
    return arguments


def _measured(benchmark: Benchmark, arguments: argparse.Namespace) -> Iterable[str]:
    rounds: int = arguments.rounds or _ROUNDS[benchmark]
    match benchmark:
        case Benchmark.PARTITIONING:
            return report_partitioning(measure_partitioning(rounds))
        case Benchmark.IMAGES:
            works = [work for work in WORKS if arguments.only in work.name]
            return report_images(list(measure_images(works, rounds, arguments.size * MIB)))
        case Benchmark.BOOT_ISOS:
            return report_bootisos(measure_bootisos(rounds))


if __name__ == "__main__":
    main()
