"""Published files over HTTP: ranges, conditions, and never a byte that isn't what was published."""

from __future__ import annotations

import gc
import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from lab import mediaserver
from libironic_disk.boot.readables import ReadableFile
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.errors import InvalidParameterValue, SourceChanged, SourceFailed
from tests.support import oracles
from tests.support.udevd import until

DATA = os.urandom(700_000)


class Server:
    """A server, and one connection to it."""

    def __init__(self, url: str, media: ServedMedia) -> None:
        self.media = media
        self.url = url
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)

    def ask(self, name: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.connection.request(method, f"/{name}", headers=named)
        answer = self.connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


@pytest.fixture
def server() -> Iterator[Server]:
    with mediaserver.running() as (url, listening):
        media = ServedMedia(url)
        # The standard library's own judge of both sides of WSGI stands between.
        listening.set_app(validator(media))
        found = Server(url, media)
        yield found
        found.connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "base.iso"
    path.write_bytes(DATA)
    return path


def test_a_file_is_served_whole(server: Server, file: Path) -> None:
    url = server.media.publish("a.iso", file)
    assert url == f"{server.url}/a.iso"
    status, headers, body = server.ask("a.iso")
    assert (status, body) == (200, DATA)
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-length"] == str(len(DATA))
    assert headers["etag"].startswith('"')


def test_head_says_the_size_and_ignores_a_range(server: Server, file: Path) -> None:
    server.media.publish("a.iso", file)
    status, headers, body = server.ask("a.iso", "HEAD", Range="bytes=0-9")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(DATA)))
    assert server.ask("a.iso")[2] == DATA


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("2048-4095", 2048, 4096),
        ("-5", 699_995, 700_000),
        ("100-", 100, 700_000),
        ("9-11,12-99", 9, 100),
    ],
)
def test_ranges(server: Server, file: Path, asked: str, start: int, stop: int) -> None:
    server.media.publish("a.iso", file)
    status, headers, body = server.ask("a.iso", Range=f"bytes={asked}")
    assert (status, body) == (206, DATA[start:stop])
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/700000"
    assert headers["content-length"] == str(stop - start)


def test_ranges_that_are_apart_get_the_whole_and_none_that_is_there_gets_416(server: Server, file: Path) -> None:
    server.media.publish("a.iso", file)
    status, _, body = server.ask("a.iso", Range="bytes=0-9,1000-1009")
    assert (status, body) == (200, DATA)
    status, headers, body = server.ask("a.iso", Range="bytes=700000-")
    assert (status, body, headers["content-range"]) == (416, b"", "bytes */700000")


def test_conditions(server: Server) -> None:
    server.media.publish("a.iso", b"old")
    tag = server.ask("a.iso")[1]["etag"]
    assert server.ask("a.iso", If_None_Match=tag)[0] == 304
    assert server.ask("a.iso", If_None_Match=f"W/{tag}, *")[0] == 304
    assert server.ask("a.iso", "HEAD", If_None_Match="*")[0] == 304
    assert server.ask("a.iso", If_Match=tag)[0] == 200
    assert server.ask("a.iso", If_Range=tag, Range="bytes=1-1")[::2] == (206, b"l")
    server.media.publish("a.iso", b"new")
    assert server.ask("a.iso", If_None_Match=tag)[::2] == (200, b"new")
    assert server.ask("a.iso", If_Match=tag)[0] == 412
    # What a client has of the old isn't to be joined with the new.
    assert server.ask("a.iso", If_Range=tag, Range="bytes=1-1")[::2] == (200, b"new")


def test_what_is_not_there_or_not_served(server: Server, file: Path) -> None:
    server.media.publish("a.iso", file)
    for name in ("b.iso", "", "a.iso/", "../a.iso", "%2e%2e/a.iso", "a.iso/../a.iso", str(file)):
        assert server.ask(name)[0] == 404, name
    status, headers, _ = server.ask("a.iso", "DELETE")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    server.media.withdraw("a.iso")
    server.media.withdraw("a.iso")
    assert server.ask("a.iso")[0] == 404
    for call in (lambda: server.media.publish("../a.iso", b""), lambda: server.media.withdraw("a/b.iso")):
        with pytest.raises(InvalidParameterValue):
            call()
    with pytest.raises(SourceFailed):
        server.media.publish("a.iso", file.with_name("none.iso"))


def test_an_empty_file(server: Server) -> None:
    server.media.publish("a.iso", b"")
    assert server.ask("a.iso")[::2] == (200, b"")
    assert server.ask("a.iso", "HEAD")[0] == 200
    assert server.ask("a.iso", Range="bytes=0-")[0] == 416


def test_a_file_that_was_changed_is_not_served(server: Server, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.media.publish("a.iso", file)
    with file.open("r+b") as opened:
        opened.write(b"other")
    for method in ("HEAD", "GET"):
        status, headers, body = server.ask("a.iso", method)
        assert (status, body, headers["content-length"]) == (503, b"", "0")
    assert server.ask("a.iso", Range="bytes=5000-5001")[0] == 503
    assert "written to after it was opened" in capsys.readouterr().err
    server.media.publish("a.iso", file)
    assert server.ask("a.iso")[2] == b"other" + DATA[5:]


def test_a_file_that_was_replaced_or_removed_is_served_as_it_was(server: Server, file: Path) -> None:
    server.media.publish("a.iso", file)
    file.with_name("new").write_bytes(b"new")
    file.with_name("new").replace(file)
    assert server.ask("a.iso")[::2] == (200, DATA)
    file.unlink()
    assert server.ask("a.iso", Range="bytes=-3")[::2] == (206, DATA[-3:])


def test_an_answer_under_way_is_cut_off_when_the_file_changes(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(50_000_000)
    with mediaserver.running() as (url, listening):
        media = ServedMedia(url)
        listening.set_app(media)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        media.publish("a.iso", file)
        connection.request("GET", "/a.iso")
        with closing(connection), connection.getresponse() as answer:
            answer.read(10)
            with file.open("r+b") as opened:
                opened.write(b"other")
            with pytest.raises(http.client.IncompleteRead):
                answer.read()


def test_an_answer_under_way_is_that_of_before_when_its_name_is_withdrawn(file: Path) -> None:
    """Also when nobody else has the file open any more."""
    media = ServedMedia("http://192.0.2.1")
    media.publish("a.iso", file)
    answer = iter(called(media, "a.iso"))
    first = next(answer)
    media.withdraw("a.iso")
    gc.collect()
    assert first + b"".join(answer) == DATA


def called(media: ServedMedia, name: str) -> Iterator[bytes]:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = f"/{name}"
    yield from media(environ, lambda status, headers, error=None: lambda data: None)


def test_machines_that_vanish_in_the_middle_of_an_answer_leave_nothing(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(50_000_000)
    with mediaserver.running() as (url, listening):
        media = ServedMedia(url)
        listening.set_app(media)
        host, port = url.removeprefix("http://").split(":")
        before = threading.active_count()
        media.publish("a.iso", file)
        for _ in range(30):
            with socket.create_connection((host, int(port)), timeout=10) as machine:
                machine.sendall(b"GET /a.iso HTTP/1.1\r\nHost: controller\r\n\r\n")
                assert machine.recv(10)
                # Switched off, it doesn't say good-bye: the other end gets a reset.
                machine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        whole = oracles.output_of_bytes("curl", "--silent", "--fail", "--range", "0-699999", f"{url}/a.iso")
        assert whole == DATA
        media.withdraw("a.iso")
        assert until(lambda: threading.active_count() == before, within=20)
        assert until(lambda: links_to(file) == 0, within=20)


def links_to(file: Path) -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        # A server's thread may close it meanwhile.
        with suppress(FileNotFoundError):
            found += entry.readlink() == file
    return found


def test_files_are_open_once_for_all_names_and_closed_with_the_last(file: Path) -> None:
    media = ServedMedia("http://192.0.2.1")
    for number in range(50):
        media.publish(f"{number}.iso", file)
    assert links_to(file) == 1
    for number in range(49):
        media.withdraw(f"{number}.iso")
    assert links_to(file) == 1
    media.withdraw("49.iso")
    assert links_to(file) == 0


def test_a_write_during_the_reading_is_noticed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readable = ReadableFile(file)
    pread = os.pread

    def written_meanwhile(descriptor: int, size: int, offset: int) -> bytes:
        with file.open("r+b") as opened:
            opened.write(b"other")
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", written_meanwhile)
    with pytest.raises(SourceChanged):
        readable.read_at(0, 5)


def test_many_threads_read_one_file(server: Server, file: Path) -> None:
    server.media.publish("a.iso", file)
    wrong: list[int] = []

    def read(seed: int) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        for number in range(20):
            start = (seed * 31_337 + number * 7_919) % 600_000
            connection.request("GET", "/a.iso", headers={"Range": f"bytes={start}-{start + 2047}"})
            if connection.getresponse().read() != DATA[start : start + 2048]:
                wrong.append(start)
        connection.close()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_curl_resumes_a_download(server: Server, file: Path, tmp_path: Path) -> None:
    url = server.media.publish("a.iso", file)
    (tmp_path / "part").write_bytes(DATA[:123_456])
    oracles.output("curl", "-sS", "--fail", "-C", "-", "-o", str(tmp_path / "part"), url)
    assert (tmp_path / "part").read_bytes() == DATA
