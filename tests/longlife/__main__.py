"""Deploy many times in one process, and look at what it holds: ``python -m tests.longlife --deployments 1000``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.longlife.living import rounds, service
from tests.longlife.measuring import HEAD, Figures, growth


def main() -> int:
    """Do it, a line for each twentieth; return 1 if anything has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.longlife", description=__doc__)
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    figures: list[Figures] = []
    came: Counter[str] = Counter()
    print(f"{'made':>8}{'seconds':>9}{HEAD}")
    with service(given.threads) as at:
        for made, endings, now in rounds(at, count=given.deployments, seed=given.seed):
            came = endings
            figures.append(now)
            print(f"{made:>8}{time.monotonic() - began:>9.0f}{now.row()}", flush=True)
    print()
    for ended, count in sorted(came.items()):
        print(f"{count:5} x {ended}")
    grown = growth(figures)
    print("\nnothing has grown" if not grown else f"\nGROWN: {'; '.join(grown)}")
    return 1 if grown else 0


sys.exit(main())
