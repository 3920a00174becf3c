"""Run the benchmarks and print what they found; as root, because a file becomes a disk through a loop device."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys

from benchmarks import machine, partitioning


def main() -> None:
    """Measure, then print the machine and the figures."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--rounds", type=int, default=15, help="rounds of each side; the first comes on top")
    rounds: int = arguments.parse_args().rounds
    if rounds < 1:
        arguments.error("at least one round")
    if os.geteuid() != 0:
        raise SystemExit("loop devices need root: sudo make bench")
    # Or a `kill` would leave the loop device behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    about = [("date", datetime.date.today().isoformat()), *machine.describe()]
    done = partitioning.measure(rounds)
    print()
    for name, value in about:
        print(f"{name:<12} {value}")
    print()
    for line in partitioning.report(done):
        print(line)


if __name__ == "__main__":
    main()
