"""What descriptions of several images, as JSON documents, have in common."""

from __future__ import annotations

from collections.abc import Mapping


def images(paths: Mapping[str, object]) -> list[dict[str, object]]:
    """Describe images by their names and files; the first one boots unless another is chosen."""
    return [
        {"name": name, "image_pull_url": f"file://{path}", "target": "/", "boot": number == 0}
        for number, (name, path) in enumerate(paths.items())
    ]
