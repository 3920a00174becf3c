"""An image over HTTP, from servers that do wrong whatever they can."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.errors import (
    Cancelled,
    ServerRefused,
    SourceChanged,
    SourceFailed,
    SourceTimedOut,
)
from libironic_disk.events import Cancellation
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images import http_mirrors
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_reading import OpenHttpImage
from libironic_disk.machine.images.http_source import HttpImage, http_image
from libironic_disk.pure.images.checksums import Algorithm, LiveDigest
from libironic_disk.pure.ranges import ByteRange
from tests.support.badserver import PAST, Fault, ImageServer, Kind
from tests.support.webserver import WebServer, answer, make_certificate, serving

HEAD = 1000
HIDDEN = "hunter2"
BODY = bytes(os.urandom(30_000))
POLICY = HttpPolicy(attempts=3, connect_timeout=2, read_timeout=0.3, total_timeout=20)
PATIENT = HttpPolicy(attempts=3, connect_timeout=20, read_timeout=20, total_timeout=60)


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def look(*servers: ImageServer, policy: HttpPolicy = POLICY) -> HttpImage:
    return http_image(*(Location(url=each.url) for each in servers), policy=policy, head_size=HEAD)


def read(image: HttpImage, *, size: int = 4096, hashed: bool = False) -> bytes:
    """Read all of it; with ``hashed``, the caller keeps a digest, as who checks a checksum does."""
    live = LiveDigest(Algorithm.SHA256)
    buffer = memoryview(bytearray(size))
    whole = bytearray()

    def delivered(position: int) -> LiveDigest:
        assert position == live.position
        return live.copy()

    with image.opened(delivered=delivered if hashed else None) as opened:
        while (piece := opened.fill(buffer)) is not None:
            assert piece.offset == len(whole)
            whole += piece.data
            live.update(piece.data)
    assert live.checksum().value == hashlib.sha256(whole).hexdigest()
    return bytes(whole)


def sockets() -> int:
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            count += "socket:" in str(each.readlink())
        except OSError:
            continue
    return count


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that no thread and no socket of ours outlives the block; those of the server need a moment."""
    before = sockets()
    yield
    assert not [each.name for each in threading.enumerate() if each.name.startswith("libironic_disk")]
    until = time.monotonic() + 5
    while sockets() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert sockets() <= before


def test_an_image(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY)
    with nothing_left():
        image = look(bad)
        assert (image.size, image.head, image.random_access) == (len(BODY), BODY[:HEAD], True)
        assert image.name == bad.url
        assert read(image) == read(image, size=17_000) == BODY
    assert bad.ranges == [f"bytes=0-{HEAD - 1}", None, None]


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1])
@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_sizes(server: WebServer, size: int, parts: bool, chunked: bool) -> None:
    image = look(ImageServer(server=server, body=BODY[:size], parts=parts, chunked=chunked))
    assert image.head == BODY[: min(size, HEAD)]
    # Chunks without a total tell the size only where they end within the head.
    assert image.size == (None if chunked and not parts and size >= HEAD else size)
    assert image.random_access == (parts and size > 0)
    assert read(image) == BODY[:size]


def test_what_random_access_needs(server: WebServer) -> None:
    def random_access(**traits: str | bool | None) -> bool:
        return look(ImageServer(server=server, body=BODY, **traits)).random_access  # type: ignore[arg-type]

    assert random_access(etag='"x"')
    assert random_access(etag=None, modified=PAST)
    assert not random_access(etag=None)
    assert not random_access(etag='W/"x"')
    assert not random_access(etag='W/"x"', modified=PAST)
    assert not random_access(etag=None, modified="Fri, 01 Jan 2100 00:00:00 GMT")
    assert not random_access(etag=None, modified="yesterday")
    assert not random_access(parts=False)
    for kind in (Kind.WRONG_START, Kind.NO_RANGE, Kind.WHOLE, Kind.REFUSED, Kind.LONGER, Kind.SHORTER):
        assert not random_access(faults=[Fault(kind=kind)]), kind  # type: ignore[arg-type]


def test_ironic_9_10_dropped_and_continued_by_range(server: WebServer) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), Fault(kind=Kind.DROP, after=10_001)]
    bad = ImageServer(server=server, body=BODY, faults=faults)
    with nothing_left():
        assert read(look(bad)) == BODY
    assert bad.ranges[1:] == [None, "bytes=10000-", "bytes=20001-"]
    assert server.seen[-1][1]["if-range"] == '"one"'


@pytest.mark.parametrize("hashed", [True, False])
def test_ironic_9_10_dropped_and_read_again_without_range(server: WebServer, hashed: bool) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), Fault(kind=Kind.DROP, after=20_000)]
    bad = ImageServer(server=server, body=BODY, faults=faults, parts=False)
    assert read(look(bad), hashed=hashed) == BODY
    assert bad.ranges[1:] == [None, None, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_ironic_9_10_refusals_are_final(server: WebServer, status: int) -> None:
    url = server.page("/no", b"", status=status)
    with nothing_left(), pytest.raises(ServerRefused, match=f"reading {url} failed at byte 0: .* {status}$") as caught:
        http_image(Location(url=f"{url}?signature=hunter2"), policy=POLICY)
    assert caught.value.status == status
    assert len(server.seen) == 1


def test_ironic_9_10_a_refusal_while_resuming_is_final(server: WebServer) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), Fault(kind=Kind.NOT_FOUND)]
    bad = ImageServer(server=server, body=BODY, faults=faults)
    with pytest.raises(ServerRefused) as caught:
        read(look(bad))
    assert (caught.value.offset, caught.value.status) == (10_000, 404)
    assert len(bad.ranges) == 3


def test_ironic_9_10_the_longest_duration_is_one_error(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.NONE), Fault(kind=Kind.STALL, after=10)])
    policy = HttpPolicy(attempts=9, read_timeout=30, total_timeout=0.5)
    image = look(bad, policy=policy)
    began = time.monotonic()
    with nothing_left(), pytest.raises(SourceTimedOut, match=r"wasn't finished within 0\.5 s") as caught:
        read(image)
    assert time.monotonic() - began < 1.5
    assert caught.value.timeout == 0.5
    assert len(bad.ranges) == 2


@pytest.mark.parametrize(
    "fault", [Kind.RESET, Kind.STALL, Kind.SILENCE, Kind.HANG_UP, Kind.GARBAGE, Kind.UNAVAILABLE, Kind.REDIRECT]
)
@pytest.mark.parametrize("parts", [True, False])
def test_what_passes(server: WebServer, fault: Kind, parts: bool) -> None:
    faults = [Fault(kind=fault, after=5), Fault(kind=Kind.NONE), Fault(kind=fault, after=10_000)]
    bad = ImageServer(server=server, body=BODY, faults=faults, parts=parts)
    with nothing_left():
        assert read(look(bad)) == BODY


def test_attempts_without_progress_are_counted(server: WebServer) -> None:
    drops = [Fault(kind=Kind.NONE)] + [Fault(kind=Kind.DROP, after=1) for _ in range(10)]
    bad = ImageServer(server=server, body=BODY, faults=[*drops, *[Fault(kind=Kind.UNAVAILABLE)] * 9])
    with pytest.raises(SourceFailed, match=r"at byte 10: the server answered 503 \(attempts: 3\)"):
        read(look(bad))
    assert len(bad.ranges) == 1 + 10 + 2  # the last of the drops was a failure too


def test_a_server_that_asks_for_time_gets_it(server: WebServer) -> None:
    answers = iter([lambda request: answer(request, 503, Retry_After="1")])
    bad = ImageServer(server=server, body=BODY)
    then = server.pages[bad.path]
    server.pages[bad.path] = lambda request: next(answers, then)(request)
    began = time.monotonic()
    look(bad)
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("value", ["9" * 5000, "Wed, 01 Jan 20222222222220 00:00:00 GMT"])
def test_a_time_to_wait_that_is_none_is_no_wait(server: WebServer, value: str) -> None:
    """Python's own errors for too many digits and for a year that no date has came out of reading."""
    answers = iter([lambda request: answer(request, 503, Retry_After=value)])
    bad = ImageServer(server=server, body=BODY)
    then = server.pages[bad.path]
    server.pages[bad.path] = lambda request: next(answers, then)(request)
    assert look(bad).size == len(BODY)


@pytest.mark.parametrize("year", ["20222222222220", "99999", "x"])
def test_a_date_that_is_none_proves_nothing(server: WebServer, year: str) -> None:
    dated = ImageServer(server=server, body=BODY, etag=None, modified=f"Wed, 01 Jan {year} 00:00:00 GMT")
    image = look(dated)
    assert not image.random_access
    assert read(image) == BODY


@pytest.mark.parametrize("kind", [Kind.CHANGED, Kind.WRONG_TOTAL, Kind.REFUSED_AND_SHORTER])
@pytest.mark.parametrize("dropped", [0, 10_000])
def test_a_changed_image_is_final(server: WebServer, kind: Kind, dropped: int) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=dropped), Fault(kind=kind)]
    bad = ImageServer(server=server, body=BODY, faults=faults)
    if dropped or kind is Kind.CHANGED:
        with nothing_left(), pytest.raises(SourceChanged, match="it was changed") as caught:
            read(look(bad))
        assert caught.value.offset == dropped
        assert len(bad.ranges) == 3


def test_an_image_that_changed_without_a_tag(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY, etag=None, parts=False)
    image = look(bad)
    bad.body = BODY + b"x"
    with pytest.raises(SourceChanged, match="its size was 30000 and is 30001"):
        read(image)
    bad.body = b"x" + BODY[1:]
    with pytest.raises(SourceChanged, match="its first bytes are others"):
        read(image)
    image = look(bad)
    bad.faults = ()
    bad._coming = iter([Fault(kind=Kind.DROP, after=10_000)])
    with image.opened() as opened:
        assert opened.fill(memoryview(bytearray(10_000))) is not None
        bad.body = bad.body[:5000] + b"y" + bad.body[5001:]
        with pytest.raises(SourceChanged, match="its first 10000 bytes are others than before"):
            opened.fill(memoryview(bytearray(10_000)))


def test_an_image_that_seemed_to_be_empty(server: WebServer) -> None:
    image = look(ImageServer(server=server, body=b"12345", faults=[Fault(kind=Kind.SHORTER)] * 2, etag=None))
    assert image.size == 0
    with pytest.raises(SourceChanged, match="its size was 0 and is 5"):
        read(image)


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_body_without_a_length_is_as_long_as_the_image_was(server: WebServer, parts: bool, hashed: bool) -> None:
    """It looks whole where it ends: only what was known before tells that it isn't."""
    served = ImageServer(server=server, body=BODY, parts=parts)
    image = look(served)
    assert image.size == len(BODY)
    served.chunked = True
    assert read(image, hashed=hashed) == BODY
    served.body = BODY[:-1]
    with pytest.raises(SourceFailed, match="it ended as if it were whole, and it has 30000 bytes") as failed:
        read(image, hashed=hashed)
    assert failed.value.offset == len(BODY) - 1
    served.body = BODY + b"x"
    # Also where the last piece ended exactly where the image did.
    for size in (4096, len(BODY) // 10):
        with pytest.raises(SourceChanged, match="goes on behind the 30000 bytes") as failed:
            read(image, hashed=hashed, size=size)
        assert failed.value.offset == len(BODY)


def test_what_ended_early_as_if_it_were_whole_goes_on_elsewhere(server: WebServer) -> None:
    """As a proxy ends it that lost its own connection."""
    first = ImageServer(server=server, body=BODY)
    second = ImageServer(server=server, body=BODY, path="/copy.img")
    image = look(first, second)
    first.body, first.chunked = BODY[:20_000], True
    assert read(image) == BODY
    assert second.ranges == [None]


def test_another_place_with_another_length(server: WebServer) -> None:
    first = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.NONE), Fault(kind=Kind.NOT_FOUND)])
    second = ImageServer(server=server, body=BODY + b"x", path="/copy.img")
    with pytest.raises(SourceChanged, match="30001 bytes there, and had 30000 when"):
        read(look(first, second))


def parts_of(server: WebServer, size: int) -> str:
    """Serve the image in chunks, of any part that is asked for no more than ``size`` bytes, and return its URL."""

    def page(request: BaseHTTPRequestHandler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        start, stop = (int(wanted[1]), int(wanted[2] or len(BODY) - 1) + 1) if wanted else (0, len(BODY))
        request.protocol_version = "HTTP/1.1"
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(BODY)}")
        request.send_header("ETag", '"one"')
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        body = BODY[start:stop] if not wanted else BODY[start:stop][:size]
        request.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    server.pages["/parts"] = page
    return f"{server.url}/parts"


def test_chunks_that_are_less_than_their_part(server: WebServer) -> None:
    image = http_image(Location(url=parts_of(server, 2000)), policy=POLICY, head_size=HEAD)
    assert image.random_access
    with image.opened() as opened:
        assert opened.read_at(10_000, 2000) == BODY[10_000:12_000]
        with pytest.raises(SourceFailed, match=r"at byte 10000: the connection ended before the body did"):
            opened.read_at(10_000, 2001)


def test_chunks_that_end_early_are_no_end(server: WebServer) -> None:
    url = parts_of(server, 9_000)
    in_parts = server.pages["/parts"]

    def page(request: BaseHTTPRequestHandler) -> None:
        if "Range" in request.headers:
            in_parts(request)
        else:
            answer(request, 200, BODY[:5_000], Content_Length=str(len(BODY)), ETag='"one"')

    server.pages["/parts"] = page
    assert read(http_image(Location(url=url), policy=POLICY, head_size=HEAD)) == BODY
    ranges = [headers.get("range") for _, headers in server.seen]
    assert ranges == [f"bytes=0-{HEAD - 1}", None, "bytes=5000-", "bytes=14000-", "bytes=23000-"]


def test_a_server_that_gives_less_than_was_asked_for(server: WebServer) -> None:
    whole = server.page("/less", BODY, ETag='"one"')
    then = server.pages["/less"]

    def page(request: BaseHTTPRequestHandler) -> None:
        if "Range" in request.headers:
            answer(request, 206, BODY[:100], Content_Range=f"bytes 0-99/{len(BODY)}", ETag='"one"')
        else:
            then(request)

    server.pages["/less"] = page
    image = http_image(Location(url=whole), policy=POLICY, head_size=HEAD)
    assert (image.head, image.random_access) == (BODY[:HEAD], False)
    assert read(image) == BODY


@pytest.mark.parametrize("kind", [Kind.WRONG_START, Kind.NO_RANGE, Kind.NO_TAG, Kind.WHOLE, Kind.REFUSED])
def test_a_wrong_part_is_not_taken(server: WebServer, kind: Kind) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), Fault(kind=kind)]
    bad = ImageServer(server=server, body=BODY, faults=faults)
    assert read(look(bad), hashed=True) == BODY
    bad = ImageServer(server=server, body=BODY, faults=faults)
    with pytest.raises(SourceFailed, match="doesn't give the rest of it any more"):
        read(look(bad))


def test_encodings_are_refused(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.ENCODED)])
    with pytest.raises(SourceFailed, match="content encoding 'gzip'"):
        look(bad)
    assert {headers["accept-encoding"] for _, headers in server.seen} == {"identity"}


def test_a_body_without_an_end_is_refused(server: WebServer) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(BODY)

    server.pages["/endless"] = endless
    with pytest.raises(SourceFailed, match="neither its length nor its end"):
        http_image(Location(url=f"{server.url}/endless"), policy=POLICY)


def test_an_endless_body_is_read_up_to_the_limit(server: WebServer) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while True:
            request.wfile.write(b"3e8\r\n" + bytes(1000) + b"\r\n")

    server.pages["/endless"] = endless
    image = http_image(Location(url=f"{server.url}/endless"), policy=POLICY, head_size=HEAD, max_bytes=100_000)
    with nothing_left(), pytest.raises(SourceFailed, match="behind the 100000 bytes") as caught:
        read(image)
    assert caught.value.offset == 100_000
    bad = ImageServer(server=server, body=BODY)
    with pytest.raises(SourceFailed, match="more than the 29999 bytes"):
        http_image(Location(url=bad.url), policy=POLICY, max_bytes=29_999)
    assert http_image(Location(url=bad.url), policy=POLICY, max_bytes=30_000).size == 30_000


def test_the_next_place_is_tried(server: WebServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/disk.img"
    gone = server.page("/gone", b"", status=404)
    good = ImageServer(server=server, body=BODY)
    with nothing_left():
        image = http_image(*map(lambda url: Location(url=url), (nobody, gone, good.url)), policy=POLICY, head_size=HEAD)
    assert image.name == good.url
    assert read(image) == BODY
    with pytest.raises(SourceFailed, match=r"refused \(attempts: 3\); reading .*/gone failed at byte 0: .* 404"):
        http_image(Location(url=nobody), Location(url=gone), policy=POLICY)


@pytest.mark.parametrize("same", [True, False])
def test_another_place_has_to_prove_what_it_has(server: WebServer, same: bool) -> None:
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), *[Fault(kind=Kind.HANG_UP)] * 3]
    first = ImageServer(server=server, body=BODY, faults=faults)
    body = BODY if same else BODY[:9_999] + b"x" + BODY[10_000:]
    second = ImageServer(server=server, body=body, path="/copy.img", etag='"one"')
    image = look(first, second)
    if same:
        assert read(image) == BODY
    else:
        with pytest.raises(SourceChanged, match=r"/copy\.img .* first 10000 bytes are others.*; reading .*disk\.img"):
            read(image)
    assert first.ranges[2:] == ["bytes=10000-"] * 2
    assert second.ranges == [None]


def test_redirects_are_remembered_until_they_fail(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.REDIRECT)] * 2)
    image = look(bad)
    bad._coming = iter([Fault(kind=Kind.REDIRECT)])
    server.seen.clear()
    bad.clients.clear()
    with image.opened() as opened:
        for offset in (5, 20_000, 10_000):
            assert opened.read_at(offset, 100) == BODY[offset : offset + 100]
        assert [path.partition("?")[0] for path, _ in server.seen] == ["/disk.img", *["/disk.img.moved"] * 3]
        assert len(bad.clients) == 2  # one was redirected, the other read three times
        server.page("/disk.img.moved", b"expired", status=403)
        assert opened.read_at(7, 10) == BODY[7:17]


def test_credentials_go_to_their_own_server_alone(server: WebServer) -> None:
    with serving() as other:
        bad = ImageServer(server=other, body=BODY)
        server.page("/far", b"", status=302, Location=f"{bad.url}?signature=hunter2")
        server.page("/near", b"", status=302, Location="/far")
        for location, sent in (
            (Location(url=f"http://me:p%40ss@{server.host}/near"), b"Basic " + base64.b64encode(b"me:p@ss")),
            (Location(url=f"{server.url}/near", bearer_token=HIDDEN), b"Bearer " + HIDDEN.encode()),
        ):
            server.seen.clear()
            image = http_image(location, policy=POLICY, head_size=HEAD)
            assert read(image) == BODY
            assert {headers.get("authorization") for _, headers in server.seen} == {sent.decode()}
            assert not any("authorization" in headers for _, headers in other.seen)
            for hidden in ("p%40ss", "p@ss", "hunter2"):
                assert hidden not in repr(image) + repr(location) + image.name


@pytest.mark.parametrize(
    "location",
    [
        Location(url="http://me:hunter2@127.0.0.1:1/path?temp_url_sig=hunter2#hunter2"),
        Location(url="http://127.0.0.1:1/path", bearer_token=HIDDEN),
        Location(url="http://127.0.0.1/path", bearer_token=f"{HIDDEN}\r\nX: y"),
        Location(url="http://m\u00e9:hunter2\u20ac@127.0.0.1:1/path"),
        Location(url="http://me:hunter2@[::1/path"),
        Location(url="http://me:hunter2@h:0/path"),
        Location(url="http://me:hunter2@-bad-.invalid../path?hunter2"),
        Location(url="ftp://me:hunter2@host/"),
    ],
)
def test_errors_keep_secrets(location: Location) -> None:
    with pytest.raises(SourceFailed) as caught:
        http_image(location, policy=POLICY)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r} {vars(error)} {error.args}"
        error = error.__context__


def test_tls(tmp_path: Path, server: WebServer) -> None:
    certificate = make_certificate(tmp_path)
    trusting = HttpPolicy(ca_file=certificate, attempts=3, read_timeout=1)
    with serving(certificate) as secure, nothing_left():
        faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=10_000), Fault(kind=Kind.RESET, after=1_000)]
        bad = ImageServer(server=secure, body=BODY, faults=faults)
        assert read(look(bad, policy=trusting)) == BODY
        with pytest.raises(SourceFailed, match="self-signed certificate"):
            look(bad)
        down = secure.page("/down", b"", status=302, Location=ImageServer(server=server, body=BODY).url)
        with pytest.raises(SourceFailed, match="from HTTPS to plain HTTP"):
            http_image(Location(url=down), policy=trusting)
    assert server.seen == []


def test_a_proxy_of_the_environment(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass@{server.host}")
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=100)])
    server.pages["http://example.invalid/disk.img"] = server.pages[bad.path]
    assert read(http_image(Location(url="http://example.invalid/disk.img"), policy=POLICY, head_size=HEAD)) == BODY
    assert {headers["proxy-authorization"] for _, headers in server.seen} == {"Basic dXNlcjpwYXNz"}


def test_reading_out_of_order(server: WebServer) -> None:
    bad = ImageServer(server=server, body=BODY)
    with nothing_left(), look(bad).opened() as opened:
        buffer = memoryview(bytearray(10_000))
        whole = bytearray()
        while (piece := opened.fill(buffer)) is not None:
            assert opened.read_at(piece.offset // 2, 50) == BODY[piece.offset // 2 :][:50]
            whole += piece.data
        assert whole == BODY
        assert opened.read_at(29_990, 100) == BODY[29_990:]
        assert opened.read_at(40_000, 100) == opened.read_at(5, 0) == b""
        bad.ranges.clear()
        ranges = [ByteRange(20_000, 20_010), ByteRange(100, 300), ByteRange(250, 400), ByteRange(1, 1)]
        assert opened.read_ranges(ranges) == [BODY[start:end] for start, end in ranges]
        assert bad.ranges == ["bytes=100-20009"]
    assert len(bad.clients) == 3  # one looked, one read, one read out of order


@given(ranges=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 150_000)), max_size=8))
def test_any_ranges(ranges: list[tuple[int, int]]) -> None:
    body = bytes(400_000 // 8) + os.urandom(350_000)
    with serving() as server, look(ImageServer(server=server, body=body)).opened() as opened:
        spans = [ByteRange(start, start + length) for start, length in ranges]
        assert opened.read_ranges(spans) == [body[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.CHANGED, SourceChanged),
        (Kind.WRONG_TOTAL, SourceChanged),
        (Kind.REFUSED, SourceChanged),
        (Kind.WRONG_START, SourceFailed),
        (Kind.NO_RANGE, SourceFailed),
        (Kind.WHOLE, SourceFailed),
        (Kind.NOT_FOUND, ServerRefused),
        (Kind.DROP, None),
        (Kind.UNAVAILABLE, None),
        (Kind.STALL, None),
        (Kind.CLOSE, None),
    ],
)
def test_faults_out_of_order(server: WebServer, kind: Kind, error: type[SourceFailed] | None) -> None:
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.NONE), Fault(kind=kind, after=10)])
    with nothing_left(), look(bad).opened() as opened:
        if error is None:
            assert opened.read_at(5000, 100) == BODY[5000:5100]
            assert opened.read_at(6000, 100) == BODY[6000:6100]
        else:
            with pytest.raises(error) as caught:
                opened.read_at(5000, 100)
            assert caught.value.offset == 5000
            with pytest.raises(error):
                opened.read_at(5000, 100)


def test_no_random_access_is_promised_and_none_is_given(server: WebServer) -> None:
    image = look(ImageServer(server=server, body=BODY, parts=False))
    with image.opened() as opened, pytest.raises(SourceFailed, match="doesn't give parts"):
        opened.read_at(0, 10)


@contextmanager
def silent() -> Iterator[str]:
    """Give the URL of a server that accepts no connection: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        queued = [socket.socket() for _ in range(4)]
        for each in queued:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/disk.img"
        for each in queued:
            each.close()


def fill(opened: OpenHttpImage) -> None:
    buffer = memoryview(bytearray(5000))
    while opened.fill(buffer) is not None:
        pass


@pytest.mark.parametrize("by", ["cancel", "stop"])
@pytest.mark.parametrize("kind", [Kind.STALL, Kind.SILENCE, Kind.UNAVAILABLE])
@pytest.mark.parametrize("call", [fill, lambda opened: opened.read_at(5000, 100)])
def test_waiting_is_cancelled_within_a_second(
    server: WebServer, kind: Kind, by: str, call: Callable[[OpenHttpImage], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 20)
    bad = ImageServer(server=server, body=BODY, faults=[Fault(kind=Kind.NONE), Fault(kind=kind, after=10)])
    cancel = Cancellation()
    with nothing_left(), look(bad, policy=PATIENT).opened(cancel=cancel) as opened:
        timer = threading.Timer(0.3, cancel.cancel if by == "cancel" else opened.stop)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            call(opened)
        assert 0.2 < time.monotonic() - began < 1.2
        timer.join()


def test_connecting_is_cancelled_within_a_second() -> None:
    cancel = Cancellation()
    with silent() as url, nothing_left():
        timer = threading.Timer(0.3, cancel.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            http_image(Location(url=url), policy=PATIENT, cancel=cancel)
        assert 0.2 < time.monotonic() - began < 1.2
        timer.join()


def test_agreeing_on_tls_is_cancelled_within_a_second() -> None:
    cancel = Cancellation()
    with socket.create_server(("127.0.0.1", 0)) as mute, nothing_left():
        timer = threading.Timer(0.3, cancel.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            http_image(Location(url=f"https://127.0.0.1:{mute.getsockname()[1]}/"), policy=PATIENT, cancel=cancel)
        assert 0.2 < time.monotonic() - began < 1.2
        timer.join()


def test_connecting_takes_no_longer_than_it_may() -> None:
    with silent() as url, nothing_left(), pytest.raises(SourceFailed, match=r"\(attempts: 2\)"):
        http_image(Location(url=url), policy=HttpPolicy(connect_timeout=0.2, attempts=2))


def test_a_trickle_flows_and_meets_the_deadline(server: WebServer) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b"x" * 50)
            time.sleep(0.02)

    server.pages["/trickle"] = trickle
    policy = HttpPolicy(total_timeout=1)
    image = http_image(Location(url=f"{server.url}/trickle"), policy=policy, head_size=10)
    began = time.monotonic()
    with nothing_left(), image.opened() as opened:
        buffer = memoryview(bytearray(100_000))
        assert opened.fill(buffer) is not None
        assert time.monotonic() - began < 0.6
        with pytest.raises(SourceTimedOut):
            while True:
                opened.fill(buffer)
    assert time.monotonic() - began < 2


kinds = st.builds(Fault, kind=st.sampled_from(Kind), after=st.integers(0, 40_000))
plain = st.builds(
    Fault,
    kind=st.sampled_from([Kind.NONE, Kind.DROP, Kind.RESET, Kind.UNAVAILABLE, Kind.WHOLE, Kind.REDIRECT]),
    after=st.integers(0, 40_000),
)


def lies_once_at_most(faults: list[Fault]) -> bool:
    """Whether the server names too short a length once; one that always does looks like one that tells the truth."""
    return sum(fault.kind is Kind.SHORTER for fault in faults) <= 1


@settings(max_examples=50)
@given(
    faults=st.lists(plain | kinds, max_size=8).filter(lies_once_at_most),
    length=st.sampled_from([0, 1, HEAD, len(BODY)]),
    parts=st.booleans(),
    chunked=st.booleans(),
    etag=st.sampled_from([None, '"one"', 'W/"one"']),
    modified=st.sampled_from([None, PAST]),
    copies=st.integers(1, 2),
    hashed=st.booleans(),
    size=st.sampled_from([700, 8_000, 100_000]),
)
def test_any_row_of_faults_ends_with_the_image_or_a_typed_error(
    faults: list[Fault],
    length: int,
    parts: bool,
    chunked: bool,
    etag: str | None,
    modified: str | None,
    copies: int,
    hashed: bool,
    size: int,
) -> None:
    body = BODY[:length]
    with serving() as server, nothing_left():
        traits = {"parts": parts, "chunked": chunked, "etag": etag, "modified": modified}
        bad = ImageServer(server=server, body=body, faults=faults, **traits)  # type: ignore[arg-type]
        copy = ImageServer(server=server, body=body, path="/copy.img", etag=None)
        policy = HttpPolicy(attempts=3, read_timeout=0.1, total_timeout=10)
        try:
            image = look(*[bad, copy][:copies], policy=policy)
            assert read(image, size=size, hashed=hashed) == body
        except SourceFailed as error:
            assert "127.0.0.1" in error.source  # noqa: PT017
            assert faults
