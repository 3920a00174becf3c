"""The file by which a system says what it is: os-release(5)."""

from __future__ import annotations

import shlex

PATHS = ("/etc/os-release", "/usr/lib/os-release")
"""Where it is looked for, in this order."""


def pretty_name(text: str) -> str:
    """Return what the system calls itself, or an empty string; a line that isn't an assignment is skipped."""
    name = ""
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and key.strip() == "PRETTY_NAME":
            try:
                name = "".join(shlex.split(value))
            except ValueError:
                continue
    return name
