"""Rounds of ironic-python-agent, by its own functions; run as a process in its own virtual environment.

The steps and their order are those of its ``partition_utils.work_on_disk`` without an image and with a config drive
partition that stays blank. ``work_on_disk`` itself can't be called so, and wouldn't tell the time of its steps.
"""

from __future__ import annotations

from ironic_python_agent import disk_utils, utils  # type: ignore[import-not-found]

from benchmarks import agent
from benchmarks.partitioning.job import Job
from benchmarks.rounds import Step, serve, timed

NODE = "a node's UUID, for its log"


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
        timed("wipe", lambda: disk_utils.destroy_disk_metadata(job.device, NODE)),
        timed("make_partitions", make_partitions),
        timed("mkfs vfat", lambda: utils.mkfs("vfat", parts["efi system partition"], "efi-part")),
        timed("mkfs swap", lambda: utils.mkfs("swap", parts["swap"], "swap1")),
        timed("mkfs ext4", lambda: utils.mkfs("ext4", parts["ephemeral"], "ephemeral0")),
        timed("rescan", lambda: disk_utils.trigger_device_rescan(job.device)),
        timed("read UUIDs", read_uuids),
    ]


if __name__ == "__main__":
    agent.initialise()
    serve(Job, make_disk)
