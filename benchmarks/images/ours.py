"""Rounds of libironic_disk; run as a process by :mod:`benchmarks.images.measuring`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.images.job import Job
from benchmarks.rounds import Step, serve
from libironic_disk import images
from libironic_disk.machine.images.http_client import Location


def write(job: Job) -> list[Step]:
    """Inspect the image and write it, and return when the disk has it."""
    began = time.perf_counter()
    source = Location(url=job.source) if job.source.startswith("http://") else Path(job.source)
    image = images.inspect(source, checksum=job.sha256)
    inspected = time.perf_counter()
    images.write_image(image, job.device, capacity=job.capacity)
    written = time.perf_counter()
    return [Step("inspect", inspected - began), Step("write", written - inspected)]


def prove_that_no_file_can_be_made() -> None:
    """Stop unless there is no place for a temporary file.

    Raises:
        SystemExit: there is one.
    """
    try:
        tempfile.TemporaryFile().close()
    except OSError:
        return
    raise SystemExit("libironic_disk was to run where it can't make a temporary file, and can")


if __name__ == "__main__":
    prove_that_no_file_can_be_made()
    serve(Job, write)
