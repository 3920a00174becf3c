"""Images from servers onto devices that fail."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import ignore
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.buffers import BUFFER_SIZE
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.machine.images.inspection import inspect_source
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.opening import open_source
from libironic_disk.machine.images.streaming import stream
from libironic_disk.machine.images.target import open_target
from libironic_disk.units import MIB
from tests.support.badserver import ImageServer
from tests.support.disks import looped
from tests.support.oracles import output
from tests.support.webserver import serving

pytestmark = pytest.mark.loopdevice

ROOM = 8 * MIB
SIZE = 24 * MIB


@contextmanager
def without_room(where: Path, *, loop: bool) -> Iterator[str]:
    """Give a file that has room for 8 MiB, or a loop device on one, which notices only when it writes back."""
    where.mkdir()
    with ExitStack() as undo:
        output("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(where))
        undo.callback(output, "umount", str(where))
        file = where / "disk.img"
        file.touch()
        os.truncate(file, SIZE)
        if not loop:
            yield str(file)
            return
        yield undo.enter_context(looped(file))


@pytest.mark.parametrize("loop", [False, True], ids=["no-room-at-a-write", "input-output-error-at-a-flush"])
@pytest.mark.parametrize("parts", [True, False])
def test_ironic_9_9_a_device_that_fails_is_no_reason_to_download_again(
    tmp_path: Path, loop: bool, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server, without_room(tmp_path / "small", loop=loop) as node:
        served = ImageServer(server=server, body=os.urandom(SIZE), parts=parts)
        image = inspect_source(open_source(served.url, policy=HttpPolicy()))
        with (
            pytest.raises(DeviceFailed) as caught,
            open_target(node, capacity=SIZE, regular_file=not loop) as target,
        ):
            stream(image, target, meter=Meter(ignore, SIZE, None), cancel=None)
    assert caught.value.device == node
    assert caught.value.reason in (
        # A loop device says which as well as it can, depending on who asked it for what.
        {os.strerror(errno.EIO), os.strerror(errno.ENOSPC)} if loop else {os.strerror(errno.ENOSPC)}
    )
    assert caught.value.action in (("writing", "flushing") if loop else ("writing",))
    assert caught.value.offset is not None or caught.value.action == "flushing"
    # Several threads write, each its own buffer: the one that finds no room needn't be the first.
    assert loop or 0 < (caught.value.offset or 0) <= ROOM + BUFFER_SIZE * max(2, len(os.sched_getaffinity(0)))
    assert served.ranges == [f"bytes=0-{HEAD - 1}", None]
    assert not [each.name for each in threading.enumerate() if each.name.startswith("libironic_disk")]
