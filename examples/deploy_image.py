"""Deploy an image onto a disk, and show how it goes: ``python -m examples.deploy_image IMAGE DISK``, as root.

IMAGE is a path or a URL. Whatever is on the disk is lost. Control-C cancels, and leaves a disk that does not boot.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from libironic_disk import (
    BytesMoved,
    Cancellation,
    DeployRequest,
    DiskError,
    Event,
    Firmware,
    ImageType,
    PhaseFinished,
    PhaseStarted,
    deploy,
)

MIB = 1024**2


def show(event: Event) -> None:
    """Print one line for each thing that happened."""
    match event:
        case PhaseStarted():
            print(f"{event.phase} {event.detail}")
        case BytesMoved():
            read = f"{event.done} of {event.total or 'unknown'} bytes read, {event.rate / MIB:.0f} MiB/s"
            print(f"  {read}; {event.written} written, {event.zeroed} zeroed")
        case PhaseFinished():
            print(f"{event.phase} took {event.seconds:.2f} s")


def request(arguments: argparse.Namespace) -> DeployRequest:
    """Return what the command line asks for."""
    return DeployRequest(
        device=str(arguments.disk),
        image=arguments.image,
        image_checksum=arguments.checksum,
        image_type=ImageType.WHOLE_DISK if arguments.whole_disk else ImageType.PARTITION,
        verify=arguments.verify,
        firmware=arguments.firmware,
        swap_mb=arguments.swap_mb,
        config_drive=arguments.config_drive,
    )


def main() -> None:
    """Plan, show the plan, apply it, print what Ironic would be told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", help="a path or a URL")
    parser.add_argument("disk", type=Path)
    parser.add_argument("--firmware", type=Firmware, choices=list(Firmware), default=Firmware.UEFI)
    parser.add_argument("--checksum", help="sha256:..., a value alone, or the URL of a checksum file")
    parser.add_argument("--whole-disk", action="store_true", help="the image has partitions of its own")
    parser.add_argument("--verify", action="store_true", help="read everything back before the disk may boot")
    parser.add_argument("--swap-mb", type=int, default=0)
    parser.add_argument("--config-drive", type=Path)
    cancellation = Cancellation()
    signal.signal(signal.SIGINT, lambda *_: cancellation.cancel())
    try:
        plan = deploy.plan(request(parser.parse_args()), cancel=cancellation)
        print(plan)
        result = deploy.apply(plan, sink=show, cancel=cancellation)
    except DiskError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    for warning in result.warnings:
        print(f"warning: {warning}")
    print(json.dumps(result.as_ironic(), indent=2))


if __name__ == "__main__":
    main()
