"""What the demo and the tests share and the library does not ship: real systems to deploy and to boot."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """Where what was built is kept for the next run: $LAB_CACHE, or .cache in the checkout."""
    return Path(os.environ.get("LAB_CACHE") or Path(__file__).parent.parent / ".cache")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs away from what is being built there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
