"""Checksum files from disks and from servers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from libironic_disk.errors import ChecksumInvalid, ImageRefused, ServerRefused, SourceFailed
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.checksum_file import LIMIT, checksum_from
from libironic_disk.machine.images.http_client import Location
from libironic_disk.pure.images.checksums import Algorithm, Checksum
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.webserver import serving

SHA256 = hashlib.sha256(b"body").hexdigest()
SHA512 = hashlib.sha512(b"body").hexdigest()
SUMS = f"# sums\r\n{SHA256.upper()} *./disk (1).img\r\nSHA512 (disk (1).img) = {SHA512}\r\n".encode()
NAME = "disk (1).img"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_file(tmp_path: Path) -> None:
    sums = tmp_path / "SUMS"
    sums.write_bytes(SUMS)
    assert checksum_from(sums, name=NAME) == Checksum(algorithm=Algorithm.SHA512, value=SHA512)
    found = checksum_from(sums, name=NAME, algorithm=Algorithm.SHA256)
    assert found == Checksum(algorithm=Algorithm.SHA256, value=SHA256)
    with pytest.raises(ChecksumInvalid, match=f"from {sums}: it has no checksum of 'other.img'"):
        checksum_from(sums, name="other.img")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="No such file"):
        checksum_from(tmp_path / "missing", name=NAME)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ImageRefused, match="not a regular file"):
            checksum_from(path, name=NAME)


def test_a_server() -> None:
    with serving() as server:
        drops = [Fault(kind=Kind.DROP, after=10), Fault(kind=Kind.REDIRECT), Fault(kind=Kind.UNAVAILABLE)]
        for parts in (True, False):
            sums = ImageServer(server=server, body=SUMS, faults=drops, parts=parts)
            location = Location(url=f"{sums.url}?signature=hunter2")
            image = Location(url="https://u:p@example.invalid/images/disk%20%281%29.img?x=y")
            found = checksum_from(location, name=image.file_name)
            assert found == Checksum(algorithm=Algorithm.SHA512, value=SHA512)
        with pytest.raises(ServerRefused, match="404"):
            checksum_from(Location(url=f"{server.url}/missing"), name=NAME, policy=HttpPolicy())


def test_one_that_is_too_long(tmp_path: Path) -> None:
    fits = tmp_path / "fits"
    for size in (LIMIT, LIMIT + 1):
        body = SUMS + b"#" * (size - len(SUMS))
        fits.write_bytes(body)
        with serving() as server:
            places = (fits, Location(url=ImageServer(server=server, body=body).url))
            for place in places:
                if size <= LIMIT:
                    assert checksum_from(place, name=NAME).value == SHA512
                else:
                    with pytest.raises(ChecksumInvalid, match="more than 1 MiB"):
                        checksum_from(place, name=NAME)
