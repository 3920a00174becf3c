"""What the demo and the tests share and the library does not ship: real systems to deploy and to boot."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
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


def built(home: Path, build: Callable[[Path], None]) -> Path:
    """Return a directory of the cache, having it built first if it isn't there: as a whole, or not at all.

    Args:
        home: the directory, whose name says by what recipe it is made.
        build: fills a directory that is in the same place, with another name.
    """
    with locked(home.with_suffix(".lock")):
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=".building-", dir=home.parent) as work:
                made = Path(work) / "made"
                made.mkdir()
                build(made)
                made.rename(home)
    return home
