"""From what a caller calls an image to its source."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from libironic_disk.errors import ImageRefused, ServerRefused, SourceFailed
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import HttpImage
from libironic_disk.machine.images.opening import ImageSource, file_name, open_source, place, unusable
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.machine.images.sources.stream import StreamSource
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.webserver import serving


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_paths_and_file_urls_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "an image #1 100%.img"
    path.write_bytes(b"image")
    monkeypatch.chdir(tmp_path)
    url = path.as_uri()
    localhost = url.replace("file:///", "file://localhost/")
    sources: tuple[ImageSource, ...] = (path, str(path), path.name, Path(path.name), url, localhost, f"FILE{url[4:]}")
    for source in sources:
        file = open_source(source)
        assert isinstance(file, LocalFile)
        assert file.size == 5
        assert Path(file_name(file)).name == path.name


def test_urls_are_images_on_servers() -> None:
    with serving() as server:
        served = ImageServer(server=server, body=b"image")
        host = served.url.removeprefix("http://")
        for source in (served.url, f"HTTP://{host}", f"http://u:hunter2@{host}?x=hunter2", Location(url=served.url)):
            image = open_source(source)
            assert isinstance(image, HttpImage)
            assert image.head == b"image"
            assert "hunter2" not in image.name
            assert file_name(image) == "disk.img"


def test_several_urls_are_places_of_one_image() -> None:
    with serving() as server:
        gone = Fault(kind=Kind.NOT_FOUND)
        first = ImageServer(server=server, body=b"image", path="/first", faults=[gone] * 10)
        second = ImageServer(server=server, body=b"image", path="/second")
        for places in ([first.url, Location(url=second.url)], (Location(url=first.url), second.url)):
            image = open_source(cast("list[str | Location]", places))
            assert isinstance(image, HttpImage)
            assert image.head == b"image"
            assert {each.url for each in image.locations} == {first.url, second.url}
        with pytest.raises(ServerRefused):
            open_source([first.url, f"{server.url}/absent"], policy=HttpPolicy())


def test_streams_and_rows_of_bytes_are_streams() -> None:
    def generated() -> Iterator[bytes]:
        yield b"im"
        yield b"age"

    pieces = [b"im", bytearray(b"a"), memoryview(b"ge")]
    reader = io.BufferedReader(cast("io.RawIOBase", io.BytesIO(b"image")))
    for source in (io.BytesIO(b"image"), reader, generated(), pieces, tuple(pieces)):
        stream = open_source(cast("ImageSource", source), name="upload", size=5)
        assert isinstance(stream, StreamSource)
        assert (stream.name, stream.size, file_name(stream)) == ("upload", 5, "upload")
        assert b"".join(iter(lambda: stream.peek(2), b"")) == b"image"  # noqa: B023 - used up at once


def test_a_pipe_is_a_stream_though_its_path_is_none(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        os.write(writing, b"image")
        os.close(writing)
        assert isinstance(open_source(stream), StreamSource)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageRefused, match="not a regular file"):
        open_source(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"image.raw", "given as bytes: wrap the bytes in io.BytesIO, and a path in pathlib.Path"),
        (bytearray(b"image"), "given as bytearray"),
        (memoryview(b"image"), "given as memoryview"),
        (None, "given as NoneType: a path, a URL"),
        (3, "given as int"),
        ("", "empty text"),
        ("disk\0.img", "its path has a zero byte"),
        ("ftp://u:hunter2@example.org/disk.img", "URLs of the kind ftp are not read"),
        ("glance://8ee0", "URLs of the kind glance are not read"),
        ("file://example.org/disk.img", "file:// and an absolute path"),
        ("file:///disk.img?x", "any special character as %XX"),
        ("file://", "file:// and an absolute path"),
        ([], "an empty list"),
        (["disk.img"], "a list with a text that is no http or https URL"),
        (["http://example.org/disk.img", Path("disk.img")], "a list with PosixPath"),
        ([b"image", "text"], "a list with bytes"),
    ],
)
def test_what_is_no_image_is_refused_without_its_secrets(source: object, words: str) -> None:
    assert words in str(unusable(source))
    with pytest.raises(ImageRefused) as refused:
        open_source(cast("ImageSource", source))
    assert words in refused.value.reason
    assert "hunter2" not in str(refused.value)


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    for source in (tmp_path / "absent", (tmp_path / "absent").as_uri()):
        with pytest.raises(SourceFailed, match="No such file"):
            open_source(source)


def test_a_place_is_what_a_url_leads_to() -> None:
    assert place("/disk.img") is None
    assert place("sha256:00ff") is None
    assert place("file:///a%20b") == Path("/a b")
    assert place("https://example.org/SUMS") == Location(url="https://example.org/SUMS")
    with pytest.raises(ImageRefused, match="ftp"):
        place("ftp://example.org/SUMS")
