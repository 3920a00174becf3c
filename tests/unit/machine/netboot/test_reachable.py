"""A URL whose server has nothing for the machine is found before anything is published."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.listening import answering
from libironic_disk import Architecture, Firmware, KernelParameters
from libironic_disk.boot import BootTask, IPXEBoot, IsoInstance, MacAddress, Ramdisk
from libironic_disk.errors import InvalidParameterValue
from libironic_disk.machine.netboot import reachable


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Heads(BaseHTTPRequestHandler):
    """Answers HEAD with the number that is the path."""

    def do_HEAD(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def heads() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Heads) as server, answering(server):
        yield f"http://127.0.0.1:{server.server_port}"


def test_what_servers_say() -> None:
    assert "can't be reached" in reachable.problem_of(f"http://127.0.0.1:{closed_port()}/vmlinuz")
    assert "can't be reached" in reachable.problem_of("http://no-such-host.invalid/vmlinuz")
    assert reachable.problem_of("tftp://192.0.2.1/vmlinuz") == ""
    with heads() as url:
        assert [reachable.problem_of(f"{url}/{status}") for status in (200, 302, 405, 501)] == [""] * 4
        assert reachable.problem_of(f"{url}/404") == f"{url}/404 isn't there: the server answers 404"
        assert "the server answers 503" in reachable.problem_of(f"{url}/503")


def test_a_task_whose_files_nobody_has_is_refused(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    boot = IPXEBoot(tmp_path, url="http://192.0.2.1/", server="192.0.2.1")
    task = BootTask(
        node="node-1",
        macs=(MacAddress("52:54:00:00:00:01"),),
        architecture=Architecture.X86_64,
        firmware=Firmware.BIOS,
        ramdisk=Ramdisk(kernel=f"{dead}/vmlinuz", ramdisk=f"{dead}/initrd", parameters=KernelParameters()),
        instance=None,
    )
    with pytest.raises(InvalidParameterValue) as refused:
        boot.validate(task)
    assert len(refused.value.problems) == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidParameterValue, match=r"x\.iso can't be reached"):
        boot.validate(replace(task, ramdisk=None, instance=IsoInstance(iso=f"{dead}/x.iso")))
