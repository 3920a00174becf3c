"""Deploy and switch by chance: ``python -m tests.soak --first 1 --seeds 500``. A seed that fails can be made again."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from libironic_disk.errors import DiskError
from tests.soak.choosing import case_of
from tests.soak.images import Images
from tests.soak.making import make
from tests.support.faults import scenes
from tests.support.webserver import serving


def main() -> int:
    """Make the seeds in turn, each in a line; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after these")
    given = parser.parse_args()
    began = time.monotonic()
    came: Counter[str] = Counter()
    failed: list[int] = []
    with tempfile.TemporaryDirectory(prefix="soak-", dir=scenes.memory()) as folder, serving() as server:
        images = Images(Path(folder))
        for seed in range(given.first, given.first + given.seeds):
            if time.monotonic() - began > given.seconds:
                break
            case = case_of(seed)
            try:
                result = make(case, images, server)
            except (AssertionError, TimeoutError, DiskError):
                traceback.print_exc()
                print(f"seed {seed} FAILED: {case}\nagain: python -m tests.soak --first {seed} --seeds 1", flush=True)
                failed.append(seed)
            else:
                print(f"seed {seed}: {case}: {result}", flush=True)
                came[result] += 1
    seconds = time.monotonic() - began
    print(
        f"\n{came.total()} seeds were well, {len(failed)} failed{f': {failed}' if failed else ''}, in {seconds:.0f} s"
    )
    for result, count in came.most_common():
        print(f"{count:5} x {result}")
    return 1 if failed else 0


sys.exit(main())
