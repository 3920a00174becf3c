"""Streams that do what a caller's streams do at worst."""

from __future__ import annotations

import io


class Broken(io.RawIOBase):
    """Gives an image up to a point, then fails as a connection does."""

    def __init__(self, data: bytes, until: int) -> None:
        self._data = io.BytesIO(data[:until])

    def read(self, size: int = -1, /) -> bytes:
        piece = self._data.read(size)
        if not piece:
            raise ConnectionResetError("reset by peer")
        return piece


class Endless:
    """Gives an image, then zeros for as long as somebody takes them; ``given`` counts bytes."""

    def __init__(self, data: bytes) -> None:
        self.given = 0
        self._data = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        piece = self._data.read(size) or bytes(size)
        self.given += len(piece)
        return piece
