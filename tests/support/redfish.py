"""Redfish services: sushy-tools' emulator as a process, and one in this process that has what hardware has."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

from lab.listening import answering

Json: TypeAlias = dict[str, object]

UUID = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
SYSTEM = f"/redfish/v1/Systems/{UUID}"
_CONFIG = """\
SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_STATE_DIR = {state!r}
SUSHY_EMULATOR_FAKE_SYSTEMS = [
    {{
        "uuid": {uuid!r}, "name": "machine", "power_state": "Off", "external_notifier": {notifies}, "nics": []
    }}
]
EXTERNAL_NOTIFICATION_URL = {listener!r}
"""


@contextmanager
def emulator(folder: Path, *, listener: str | None = None) -> Iterator[str]:
    """Run sushy-tools' emulator with one machine that doesn't exist; give its URL.

    Args:
        folder: where it keeps what it knows, and what it fetches.
        listener: a URL that is told of each change, by PUT of the machine.
    """
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    config = folder / "emulator.conf"
    config.write_text(
        _CONFIG.format(port=port, state=str(folder), uuid=UUID, notifies=bool(listener), listener=listener or "")
    )
    program = Path(sys.executable).with_name("sushy-emulator")
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config", str(config)], stdout=log, stderr=log, env={"TMPDIR": str(folder), "PATH": "/usr/bin"}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/redfish/v1/", process, folder / "emulator.log")
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            page(url)
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


class Trouble(StrEnum):
    """What becomes of a request."""

    HANGS_UP = "hangs up without an answer"
    HANGS_UP_LATE = "hangs up when it has done its work"
    FAILS = "answers 500"
    FAILS_LATE = "answers 500 when it has done its work"
    BUSY = "answers 503"
    FORBIDS = "answers 403"
    GARBAGE = "answers with a page that is no JSON"
    NONSENSE = "answers with JSON of another kind"
    CUT_OFF = "cuts its answer off"
    SILENT = "says nothing"


_STATUS: Mapping[Trouble, int] = {
    Trouble.FAILS: 500,
    Trouble.FAILS_LATE: 500,
    Trouble.BUSY: 503,
    Trouble.FORBIDS: 403,
}
_WITHOUT_WORK = frozenset({Trouble.HANGS_UP, Trouble.FAILS, Trouble.BUSY, Trouble.FORBIDS, Trouble.SILENT})
_BODIES = {Trouble.GARBAGE: b"<html>It works!</html>", Trouble.NONSENSE: b'["It works!"]'}


class Service:
    """A Redfish service with one machine, whose answers are given.

    Attributes:
        url: where it is.
        pages: resources by path.
        actions: what happens, and with which status, at a POST to a path, or at ``GET path`` and ``PATCH path``.
        seen: what was asked, in order: method, path, body.
        trouble: says what becomes of the next request.

    What isn't there is answered by 404, or 405 where only the method is wrong.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Json] = {}
        self.actions: dict[str, Callable[[Json], int]] = {}
        self.seen: list[tuple[str, str, Json]] = []
        self.trouble: Callable[[], Trouble | None] = lambda: None
        self.machine("/redfish/v1/Systems/1", "/redfish/v1/Managers/1")

    def machine(self, system: str, manager: str) -> None:
        """Put one machine and its manager there, without any media."""
        self.pages["/redfish/v1"] = {"Id": "root", "Name": "root", "RedfishVersion": "1.6.0"} | {
            key: _link(f"/redfish/v1/{key}") for key in ("Systems", "Managers")
        }
        self.pages["/redfish/v1/Systems"] = _collection(system)
        self.pages["/redfish/v1/Managers"] = _collection(manager)
        self.pages[system] = {
            **{"@odata.id": system, "Id": "1", "Name": "1", "PowerState": "Off", "Manufacturer": "Contoso"},
            "Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Hdd", "Cd", "Pxe"]},
            "Actions": {"#ComputerSystem.Reset": {"target": f"{system}/Actions/Reset"}},
            "Links": {"ManagedBy": [_link(manager)]},
        }
        self.pages[manager] = {"@odata.id": manager, "Id": "1", "Name": "1", "ManagerType": "BMC"}

    def media(self, owner: str, slots: Mapping[str, list[str] | None], *, actions: bool = True) -> str:
        """Give an owner a collection of slots with these media types; return its path."""
        collection = f"{owner}/VirtualMedia"
        self.pages[owner]["VirtualMedia"] = _link(collection)
        self.pages[collection] = _collection(*(f"{collection}/{name}" for name in slots))
        for name, kinds in slots.items():
            path = f"{collection}/{name}"
            page: Json = {"@odata.id": path, "Id": name, "Name": name, "Inserted": False, "Image": ""}
            page |= {"MediaTypes": kinds} if kinds is not None else {}
            if actions:
                page["Actions"] = {
                    f"#VirtualMedia.{action}": {"target": f"{path}/Actions/{action}"}
                    for action in ("InsertMedia", "EjectMedia")
                }
                self.actions[f"{path}/Actions/InsertMedia"] = partial(_insert, page)
                self.actions[f"{path}/Actions/EjectMedia"] = partial(_eject, page)
            self.pages[path] = page
        return collection

    def asked(self, method: str) -> list[tuple[str, Json]]:
        """What was asked by a method, in order, but for logging in."""
        return [(path, body) for each, path, body in self.seen if each == method and "Session" not in path]


def _link(path: str) -> Json:
    return {"@odata.id": path}


def _collection(*paths: str) -> Json:
    return {"Name": "collection", "Members": [_link(path) for path in paths], "Members@odata.count": len(paths)}


def _insert(page: Json, asked: Json) -> int:
    page.update(Inserted=True, Image=asked["Image"])
    return 204


def _eject(page: Json, asked: Json) -> int:
    page.update(Inserted=False, Image="")
    return 204


@contextmanager
def service() -> Iterator[Service]:
    """Serve one until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        _trouble: Trouble | None = None

        def do_GET(self) -> None:
            path = self.path.rstrip("/")
            if self._is_troubled():
                return
            found.seen.append(("GET", path, {}))
            action = found.actions.get(f"GET {path}")
            status = action({}) if action else 200
            self._answer(status if status != 200 or path in found.pages else 404, found.pages.get(path))

        def do_POST(self) -> None:
            self._act(self._body())

        def do_PATCH(self) -> None:
            self._act(self._body())

        def _is_troubled(self) -> bool:
            """Whether the request comes to nothing; what is wrong with another's answer is in ``_trouble``."""
            self._trouble = found.trouble()
            if self._trouble not in _WITHOUT_WORK:
                return False
            if self._trouble is Trouble.SILENT:
                # Until the client has enough of it.
                self.connection.recv(1)
            if self._trouble in _STATUS:
                self._answer(_STATUS[self._trouble], None)
            self.close_connection = True
            return True

        def _act(self, asked: Json) -> None:
            path = self.path.rstrip("/")
            if self._is_troubled():
                return
            found.seen.append((self.command, path, asked))
            action = found.actions.get(path) or found.actions.get(f"{self.command} {path}")
            status = action(asked) if action else 405 if path in found.pages else 404
            self._answer(status, None)

        def _body(self) -> Json:
            read = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            assert isinstance(read, dict)
            return read

        def _answer(self, status: int, page: Json | None) -> None:
            if self._trouble is Trouble.HANGS_UP_LATE:
                self.close_connection = True
                return
            status = _STATUS.get(self._trouble, status) if self._trouble else status
            if status >= 400:
                page = {"error": {"code": "Base.1.0.GeneralError", "message": f"hardware says {status}"}}
            body = json.dumps(page).encode() if page is not None and status != 204 else b""
            if self._trouble in _BODIES:
                status, body = 200, _BODIES[self._trouble]
            if self._trouble is Trouble.CUT_OFF:
                status, body = 200, body or b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            if self.close_connection:
                # sushy asks for that, and takes a connection that nobody said so of for one that stays.
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self._trouble is Trouble.CUT_OFF else body)
            self.close_connection = self.close_connection or self._trouble is Trouble.CUT_OFF

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found = Service(f"http://127.0.0.1:{server.server_port}")
        with answering(server):
            yield found


def page(url: str) -> Json:
    """Return a resource of a service."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a URL of ours
        read = json.loads(answer.read())
    assert isinstance(read, dict)
    return read
