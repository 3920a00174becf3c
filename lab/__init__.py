"""What the demo and the tests share and the library does not ship: real systems to deploy and to boot."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Where what was built is kept for the next run: $LAB_CACHE, or .cache in the checkout."""
    return Path(os.environ.get("LAB_CACHE") or Path(__file__).parent.parent / ".cache")
