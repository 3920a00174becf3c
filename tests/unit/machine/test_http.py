"""Reading over HTTP, against a real server that misbehaves in every way it can."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from libironic_disk.errors import SourceFailed
from libironic_disk.machine import http
from libironic_disk.machine.http import DEFAULT_POLICY, HttpPolicy
from libironic_disk.machine.images import http_source
from libironic_disk.machine.images.http_client import Location
from tests.support.webserver import WebServer, answer, make_certificate, serving

KIB = 1024
HASTY = HttpPolicy(attempts=1, connect_timeout=2, read_timeout=2, total_timeout=5)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(http, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def fetch(url: str, *, limit: int, policy: HttpPolicy = DEFAULT_POLICY) -> bytes:
    return http_source.fetch(Location(url=url), limit=limit, policy=policy)


def test_a_body_of_any_size_up_to_the_limit(server: WebServer) -> None:
    for size in (0, 1, 64 * KIB, 200 * KIB):
        body = os.urandom(size)
        assert fetch(server.page("/body", body), limit=size) == body


def test_a_longer_body_is_cut_after_one_byte_more(server: WebServer) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        while True:
            request.wfile.write(bytes(64 * KIB))

    server.pages["/endless"] = endless
    assert fetch(f"{server.url}/endless", limit=300_000) == bytes(300_001)
    assert fetch(server.page("/long", b"abcdef"), limit=3) == b"abcd"


def test_chunks(server: WebServer) -> None:
    def chunked(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    server.pages["/chunked"] = chunked
    assert fetch(f"{server.url}/chunked", limit=100) == b"abcde"


def test_a_server_that_recovers_is_asked_again(server: WebServer) -> None:
    answers = iter([503, 500, 429, 408, 425, 200])
    server.pages["/flaky"] = lambda request: answer(request, next(answers), b"body")
    assert fetch(f"{server.url}/flaky", limit=100, policy=HttpPolicy(attempts=6)) == b"body"
    assert len(server.seen) == 6


def test_a_server_that_doesnt_recover(server: WebServer) -> None:
    with pytest.raises(SourceFailed, match=r"answered 502 \(attempts: 3\)"):
        fetch(server.page("/broken", b"", status=502), limit=100, policy=HttpPolicy(attempts=3))
    assert len(server.seen) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 206, 304])
def test_other_answers_are_final(server: WebServer, status: int) -> None:
    with pytest.raises(SourceFailed, match=f"the server answered {status}"):
        fetch(server.page("/no", b"", status=status), limit=100)
    # A part that isn't the one that was asked for may be a misunderstanding: the whole is asked for then.
    assert len(server.seen) == (2 if status == 206 else 1)


def test_a_body_that_ends_early_is_read_again(server: WebServer) -> None:
    lengths = iter(["9", "4"])
    server.pages["/cut"] = lambda request: answer(request, 200, b"body", Content_Length=next(lengths))
    assert fetch(f"{server.url}/cut", limit=100) == b"body"
    with pytest.raises(SourceFailed, match="ended before the body did"):
        fetch(server.page("/always", b"body", Content_Length="9"), limit=100, policy=HASTY)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SourceFailed, match=r"refused \(attempts: 2\)"):
        fetch(f"http://127.0.0.1:{port}/", limit=100, policy=HttpPolicy(attempts=2))


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        with pytest.raises(SourceFailed, match=r"wasn't finished within 0\.5 s"):
            fetch(url, limit=100, policy=HttpPolicy(read_timeout=0.2, total_timeout=0.5, attempts=99))
    assert time.monotonic() - began < 2


def test_a_trickle_meets_the_deadline(server: WebServer) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x")
            time.sleep(0.05)

    server.pages["/trickle"] = trickle
    began = time.monotonic()
    with pytest.raises(SourceFailed, match=r"wasn't finished within 0\.5 s"):
        fetch(f"{server.url}/trickle", limit=1000, policy=HttpPolicy(total_timeout=0.5))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(server: WebServer, status: int) -> None:
    server.page("/a/end", b"body")
    server.page("/middle", b"", status=status, Location="/a/end")
    assert fetch(server.page("/start", b"", status=status, Location="middle"), limit=100) == b"body"


def test_endless_redirects(server: WebServer) -> None:
    with pytest.raises(SourceFailed, match="redirects more than 3 times"):
        fetch(server.page("/circle", b"", status=302, Location="/circle"), limit=100, policy=HttpPolicy(redirects=3))
    assert len(server.seen) == 4


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/", "http://", "http://[::1", "http://h:99999/"])
def test_redirects_to_elsewhere(server: WebServer, target: str) -> None:
    with pytest.raises(SourceFailed):
        fetch(server.page("/start", b"", status=302, Location=target), limit=100, policy=HASTY)


def test_credentials_go_to_their_own_server_alone(server: WebServer) -> None:
    with serving() as other:
        other.page("/end", b"body")
        server.page("/far", b"", status=302, Location=f"{other.url}/end")
        server.page("/near", b"", status=302, Location="/far")
        assert fetch(f"http://me:p%40ss@{server.host}/near", limit=100) == b"body"
        sent = "Basic " + base64.b64encode(b"me:p@ss").decode()
        assert [headers.get("authorization") for _, headers in server.seen] == [sent, sent]
        assert "authorization" not in other.seen[0][1]


def test_tls_is_verified_and_never_left(tmp_path: Path, server: WebServer) -> None:
    certificate = make_certificate(tmp_path)
    trusting = HttpPolicy(ca_file=certificate)
    with serving(certificate) as secure:
        assert fetch(secure.page("/body", b"body"), limit=100, policy=trusting) == b"body"
        with pytest.raises(SourceFailed, match="self-signed certificate"):
            fetch(f"{secure.url}/body", limit=100)
        assert len(secure.seen) == 1
        secure.page("/down", b"", status=302, Location=server.page("/plain", b"body"))
        with pytest.raises(SourceFailed, match="from HTTPS to plain HTTP"):
            fetch(f"{secure.url}/down", limit=100, policy=trusting)
        assert server.seen == []
        with pytest.raises(SourceFailed):
            fetch(f"{secure.url}/body", limit=100, policy=HttpPolicy(ca_file=tmp_path / "missing"))


def test_proxies_of_the_environment(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass@{server.host}")
    server.pages["http://example.invalid/body"] = lambda request: answer(request, 200, b"through the proxy")
    before = dict(os.environ)
    assert fetch("http://example.invalid/body", limit=100) == b"through the proxy"
    assert server.seen[0][0] == "http://example.invalid/body"
    assert server.seen[0][1]["proxy-authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
    with serving() as direct:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        before["no_proxy"] = "127.0.0.1"
        assert fetch(direct.page("/body", b"direct"), limit=100) == b"direct"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1:1/path?temp_url_sig=hunter2#hunter2",
        "http://me:hunter2@[::1/path",
        "http://me:hunter2@:80/path",
        "http://me:hunter2@h:port/path",
        "http://me:hunter2@h:0/path",
        "http://me:hunter2@-bad-.invalid../path?hunter2",
        "http://me:hunter2@" + "x" * 70 + ".invalid/?hunter2",
        "ftp://me:hunter2@host/",
    ],
)
def test_errors_keep_credentials_and_queries(url: str) -> None:
    with pytest.raises(SourceFailed) as caught:
        fetch(url, limit=100, policy=HASTY)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r} {vars(error)} {error.args}"
        error = error.__context__


def test_redacted() -> None:
    assert http.redacted("https://u:p@host:8/a/b?c=d#e") == "https://host:8/a/b"
