"""Rounds of ironic-python-agent, by its own functions; run as a process in its own virtual environment.

The steps and their order are those of its ``partition_utils.work_on_disk`` without an image and with a config drive
partition that stays blank. ``work_on_disk`` itself can't be called so, and wouldn't tell the time of its steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import ironic_python_agent.config  # type: ignore[import-not-found]  # noqa: F401  it registers the options
from ironic_python_agent import disk_utils, utils
from oslo_config import cfg
from oslo_log import log  # type: ignore[import-not-found]

from benchmarks.rounds import Job, Step, serve

NODE = "a node's UUID, for its log"


def initialise() -> None:
    """Set it up as its own ``cmd/agent.py`` does, with every option at its default."""
    log.register_options(cfg.CONF)
    cfg.CONF(args=[], default_config_files=[], default_config_dirs=[])
    log.setup(cfg.CONF, "ironic-python-agent")


def make_disk(job: Job) -> list[Step]:
    """Wipe, partition, format, have the kernel look again and read the UUIDs.

    The EFI system partition's size is an option of its configuration, whose default is the job's.
    """
    parts: dict[str, str] = {}

    def make_partitions() -> None:
        parts.update(
            disk_utils.make_partitions(
                job.device,
                job.root,
                job.swap,
                job.ephemeral,
                job.config_drive,
                NODE,
                boot_option="local",
                boot_mode="uefi",
            )
        )

    def read_uuids() -> None:
        disk_utils.block_uuid(parts["root"])
        disk_utils.block_uuid(parts["efi system partition"])

    return [
        _timed("wipe", lambda: disk_utils.destroy_disk_metadata(job.device, NODE)),
        _timed("make_partitions", make_partitions),
        _timed("mkfs vfat", lambda: utils.mkfs("vfat", parts["efi system partition"], "efi-part")),
        _timed("mkfs swap", lambda: utils.mkfs("swap", parts["swap"], "swap1")),
        _timed("mkfs ext4", lambda: utils.mkfs("ext4", parts["ephemeral"], "ephemeral0")),
        _timed("rescan", lambda: disk_utils.trigger_device_rescan(job.device)),
        _timed("read UUIDs", read_uuids),
    ]


def _timed(name: str, work: Callable[[], object]) -> Step:
    began = time.perf_counter()
    work()
    return Step(name, time.perf_counter() - began)


if __name__ == "__main__":
    initialise()
    serve(make_disk)
