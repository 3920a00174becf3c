"""Fuzz targets, or replay what was found."""

from __future__ import annotations

import argparse
import secrets
import sys
from functools import partial
from pathlib import Path

from tests.fuzz.engine import Bounds, Places, fuzz, load

_FOUND = 77  # libFuzzer's own
_NO_PRODUCT = {"__init__", "planted"}


def main() -> int:
    """Read the command line, do what it says, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="modules in tests/fuzz/targets; all, one after another, by default")
    parser.add_argument("--seconds", type=int, help="end each after these")
    parser.add_argument("--runs", type=int, help="end each after so many inputs")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31) + 1)
    parser.add_argument("--corpus", type=Path, help="where inputs are taken from and added to, by target")
    parser.add_argument("--findings", type=Path, help="where inputs that fail go, by target")
    parser.add_argument("--replay", type=Path, help="try this one input")
    given = parser.parse_args()
    names = given.target or _all()
    if given.replay:
        if len(names) != 1:
            parser.error("to replay an input takes the name of its target")
        load(names[0]).check(given.replay.read_bytes())
        return 0
    failed = fuzz(
        names,
        seed=given.seed,
        bounds=Bounds(seconds=given.seconds, runs=given.runs),
        places=partial(Places.of, corpus=given.corpus, findings=given.findings),
    )
    if failed:
        print(f"fuzz: something was found with {', '.join(failed)}", file=sys.stderr)  # noqa: T201
    return _FOUND if failed else 0


def _all() -> list[str]:
    modules = (Path(__file__).parent / "targets").glob("*.py")
    return sorted(path.stem for path in modules if path.stem not in _NO_PRODUCT)


sys.exit(main())
