"""Rounds of libironic_disk; run as a process by :mod:`benchmarks.bootisos.measuring`."""

from __future__ import annotations

from benchmarks.bootisos.job import Job
from benchmarks.rounds import Step, serve, timed
from libironic_disk import KernelParameters, bootiso
from libironic_disk.bootiso import BootIso, PatchedIso

CHANGE = bootiso.ParameterChange(
    append=KernelParameters(words=("ipa-api-url=http://192.0.2.1:6385", "BOOTIF=01-52-54-00-12-34-56", "nofb"))
)
FILES = {"/openstack/latest/network_data.json": b'{"links": [], "networks": [], "services": []}'}
EARLY_FILES = {"/etc/ironic-python-agent/node.conf": b"[DEFAULT]\napi_url = http://192.0.2.1:6385\n"}


def work(job: Job) -> list[Step]:
    """Open the ISO, plan a patch, read its first MiB as a server would, and write it out if that is asked for."""
    opened: list[BootIso] = []
    patched: list[PatchedIso] = []

    def plan() -> None:
        patched.append(opened[0].patch(parameters=CHANGE, files=FILES, initrd_files=EARLY_FILES))

    steps = [timed("open", lambda: opened.append(bootiso.open_iso(job.source)))]
    with opened[0]:
        steps.append(timed("plan", plan))
        steps.append(timed("first MiB", lambda: patched[0].read_at(0, 1024 * 1024)))
        if job.destination:
            steps.append(timed("write", lambda: patched[0].write(job.destination)))
        # Not seconds, but bytes: the figure goes the same way.
        steps.append(Step("inline", float(patched[0].report.inline_size)))
    return steps


if __name__ == "__main__":
    serve(Job, work)
