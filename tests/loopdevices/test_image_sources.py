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
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import http_image
from libironic_disk.machine.images.writer import open_target
from libironic_disk.machine.images.writing import Meter, write_raw
from libironic_disk.units import MIB
from tests.support.badserver import ImageServer
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
        node = output("losetup", "--find", "--show", str(file)).strip()
        undo.callback(output, "losetup", "--detach", node)
        yield node


@pytest.mark.parametrize("loop", [False, True], ids=["no-room-at-a-write", "input-output-error-at-a-flush"])
@pytest.mark.parametrize("parts", [True, False])
def test_ironic_9_9_a_device_that_fails_is_no_reason_to_download_again(
    tmp_path: Path, loop: bool, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server, without_room(tmp_path / "small", loop=loop) as node:
        served = ImageServer(server=server, body=os.urandom(SIZE), parts=parts)
        image = http_image(Location(url=served.url), policy=HttpPolicy(), head_size=4096)
        with (
            pytest.raises(DeviceFailed) as caught,
            open_target(node, capacity=SIZE, regular_file=not loop) as target,
        ):
            write_raw(image, target, meter=Meter(ignore, image.size), cancel=None)
            target.flush()
    assert caught.value.device == node
    assert caught.value.reason == os.strerror(errno.EIO if loop else errno.ENOSPC)
    assert caught.value.action in (("writing", "flushing") if loop else ("writing",))
    assert caught.value.offset is not None or caught.value.action == "flushing"
    assert loop or 0 < (caught.value.offset or 0) <= ROOM
    assert served.ranges == ["bytes=0-4095", None]
    assert not [each.name for each in threading.enumerate() if each.name.startswith("libironic_disk")]
