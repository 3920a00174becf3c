"""Rounds of ironic-python-agent, by its own functions; run as a process in its own virtual environment.

A raw image is streamed. Of a qcow2 image it is what its ``_cache_and_write_image`` does for a whole disk, less what it
does around the image: it wipes the disk before, which takes it a second, and looks at the table afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import ironic_python_agent.config  # type: ignore[import-not-found]  # noqa: F401  first, the others read options
from ironic_python_agent import disk_utils
from ironic_python_agent.extensions import standby  # type: ignore[import-not-found]

from benchmarks import agent
from benchmarks.images.job import Job
from benchmarks.rounds import Step, serve, timed

_IDENTITY = "an-image"


def write(job: Job) -> list[Step]:
    """Write an image from a URL, with its checksum."""
    is_qcow2 = job.source.endswith(".qcow2")
    about = {
        "id": _IDENTITY,
        "urls": [job.source],
        "disk_format": "qcow2" if is_qcow2 else "raw",
        "os_hash_algo": "sha256",
        "os_hash_value": job.sha256,
    }
    if is_qcow2:
        return _cache_and_convert(about, job.device)
    extension = standby.StandbyExtension()
    extension.partition_uuids = {}
    return [timed("stream", lambda: extension._stream_raw_image_onto_device(about, job.device))]


def _cache_and_convert(about: Mapping[str, object], device: str) -> list[Step]:
    file = Path(tempfile.gettempdir()) / _IDENTITY

    def convert() -> None:
        found, _ = disk_utils.get_and_validate_image_format(str(file), "qcow2")
        disk_utils.populate_image(
            str(file), device, source_format=found, out_format="host_device", cache="directsync", out_of_order=True
        )

    try:
        return [timed("download, sha256", lambda: standby._download_image(about)), timed("inspect, convert", convert)]
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    agent.initialise()
    serve(Job, write)
