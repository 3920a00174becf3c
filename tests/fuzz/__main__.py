"""Fuzz a target, or replay what was found."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from tests.fuzz.engine import Bounds, fuzz, load


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", help="a module in tests/fuzz/targets")
    parser.add_argument("--seconds", type=int, help="end after these")
    parser.add_argument("--runs", type=int, help="end after so many inputs")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31) + 1)
    parser.add_argument("--corpus", type=Path, help="a directory that inputs are taken from and added to")
    parser.add_argument("--findings", type=Path, help="the directory for inputs that fail")
    parser.add_argument("--replay", type=Path, help="try this one input")
    given = parser.parse_args()
    if given.replay:
        load(given.target).check(given.replay.read_bytes())
        return
    directory = Path(".cache/fuzz") / given.target
    fuzz(
        given.target,
        seed=given.seed,
        bounds=Bounds(seconds=given.seconds, runs=given.runs),
        corpus=given.corpus or directory / "corpus",
        findings=given.findings or directory / "findings",
    )


main()
