"""A function that the kernel refuses to serve: a fault that no real machine shows on request."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


def refuse(monkeypatch: pytest.MonkeyPatch, where: object, name: str, code: int, when: Callable[..., bool]) -> None:
    """Have a function raise an error of the kernel's, for the calls that are meant."""
    real: Callable[..., object] = getattr(where, name)

    def refused(*arguments: object, **named: object) -> object:
        if when(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, refused)
