"""Rounds of libironic_disk; run as a process by :mod:`benchmarks.partitioning.measuring`."""

from __future__ import annotations

import time

from benchmarks.partitioning.job import Job
from benchmarks.rounds import Step, serve
from libironic_disk import Event, Existing, PhaseFinished, PhaseStarted, ironic_layout, partitioner
from libironic_disk.units import MIB


def make_disk(job: Job) -> list[Step]:
    """Observe, plan and apply, with all checks and all waiting for the disk that this takes."""
    began = time.perf_counter()
    facts = partitioner.observe(job.device)
    observed = time.perf_counter()
    layout = ironic_layout(
        root_mb=job.root,
        swap_mb=job.swap,
        ephemeral_mb=job.ephemeral,
        config_drive_bytes=job.config_drive * MIB,
    )
    plan = partitioner.plan(layout, facts, existing=Existing.REPLACE)
    planned = time.perf_counter()
    events: list[Event] = []
    partitioner.apply(plan, sink=events.append)
    applied = time.perf_counter()
    phases = _phases(events)
    rest = applied - planned - sum(step.seconds for step in phases)
    return [Step("observe", observed - began), Step("plan", planned - observed), *phases, Step("open, lock", rest)]


def _phases(events: list[Event]) -> list[Step]:
    steps: list[Step] = []
    about = ""
    for event in events:
        match event:
            case PhaseStarted():
                # "ext4 on ephemeral" tells more than "format"; of the other phases it would be the device.
                about = event.phase if event.detail.startswith("/dev/") else event.detail
            case PhaseFinished():
                steps.append(Step(about, event.seconds))
    return steps


if __name__ == "__main__":
    serve(Job, make_disk)
