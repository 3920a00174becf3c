"""Checksums in every form that people write them, with coreutils and OpenSSL as second opinions."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ChecksumInvalid, ChecksumMismatch
from libironic_disk.pure.images.checksums import Algorithm, Checksum, LiveDigest, find_checksum, parse_checksum

BODY = b"an image"
SHA256 = hashlib.sha256(BODY).hexdigest()
SHA512 = hashlib.sha512(BODY).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
EXPECTED = Checksum(algorithm=Algorithm.SHA256, value=SHA256)


def find(text: str, name: str = "disk.img", algorithm: Algorithm | None = None) -> Checksum:
    return find_checksum(text, name=name, source="SUMS", algorithm=algorithm)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("md5:{}", "md5"),
        ("SHA-1:{}", "sha1"),
        ("SHA2-384:{}", "sha384"),
        ("sha3_256:{}", "sha3_256"),
        ("SHA3-512:{}", "sha3_512"),
        ("blake2b:{}", "blake2b"),
        ("BLAKE2b512:{}", "blake2b"),
        ("BLAKE2s256:{}", "blake2s"),
        ("{}", "md5"),
        ("{}", "sha256"),
        (" {}\n", "sha512"),
    ],
)
def test_values(text: str, algorithm: str) -> None:
    value = hashlib.new(algorithm, BODY).hexdigest()
    for written in (value, value.upper()):
        assert parse_checksum(text.format(written)) == Checksum(algorithm=Algorithm(algorithm), value=value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write the algorithm"),
        ("sha256:", "write the algorithm"),
        ("sha256:xyz", "write the algorithm"),
        (f"sha256 {SHA256}", "write the algorithm"),
        (f"crc32:{SHA256}", "no known algorithm"),
        (f"shake_128:{SHA256}", "no known algorithm"),
        (SHA256[:-1], "no known algorithm"),
        (f"sha256:{SHA256[:-1]}", "has 64 hexadecimal digits"),
        (f"sha256:{SHA256}0", "has 64 hexadecimal digits"),
        (f"md5:{SHA256}", "has 32 hexadecimal digits"),
        ("sha256:" + "\u0661" * 64, "write the algorithm"),
    ],
)
def test_what_is_no_value(text: str, reason: str) -> None:
    with pytest.raises(ChecksumInvalid, match=reason):
        parse_checksum(text)


def test_no_checksum_can_be_made_that_nothing_has() -> None:
    with pytest.raises(ChecksumInvalid, match="64 hexadecimal digits"):
        Checksum(algorithm=Algorithm.SHA256, value=SHA256 + "\n")
    with pytest.raises(ChecksumInvalid, match="64 hexadecimal digits"):
        Checksum(algorithm=Algorithm.SHA256, value="\u0661" * 64)


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA256}  disk.img\n",
        f"{SHA256} *disk.img\n",
        f"{SHA256} disk.img",
        f"{SHA256}\tdisk.img",
        f"{SHA256}  ./disk.img\n",
        f"{SHA256}  images/today/disk.img\n",
        f"{SHA256}  /srv/disk.img\n",
        f"{SHA256.upper()}  disk.img\n",
        f"{SHA256}  disk.img\r\n{OTHER}  other.img\r\n",
        f"# {OTHER}  disk.img\n\n{SHA256}  disk.img\n",
        f"\ufeff{SHA256}  disk.img\n",
        f"SHA256 (disk.img) = {SHA256}\n",
        f"SHA256 (./disk.img) = {SHA256.upper()}\r\n",
        f"SHA2-256(disk.img)= {SHA256}\n",
        f"{SHA256}\n",
        f"  {SHA256.upper()}  \r\n",
        f"sha256:{SHA256}",
        f"{OTHER}  old/disk.img\n{SHA256}  disk.img\n",
        f"{SHA256}  disk.img\n{SHA256}  copies/disk.img\n",
        f"{OTHER}  disk.img.gz\n{OTHER}  adisk.img\n{OTHER}  diskximg\n{SHA256}  disk.img\n",
        f"{OTHER[:32]}  disk.img\n{SHA256}  disk.img\n{OTHER[:40]}  disk.img\n",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 8 bytes\n"
        f"SHA256 (disk.img) = {SHA256}\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n=abcd\n",
    ],
)
def test_ironic_9_12_checksum_file_variants(text: str) -> None:
    assert find(text) == EXPECTED


@pytest.mark.parametrize("name", ["disk+(1)[2].img", "a.b*c?.img", "ä disk.img", "a$^|{2}.img", "(a) = b.img", "*x"])
def test_ironic_9_12_names_that_would_be_patterns(name: str) -> None:
    for text in (f"{SHA256}  {name}\n{OTHER}  x{name}\n", f"SHA256 (x{name}) = {OTHER}\nSHA256 ({name}) = {SHA256}\n"):
        assert find(text, name) == EXPECTED
        with pytest.raises(ChecksumInvalid, match="has no checksum of"):
            find(text, "disk1.img")


@pytest.mark.parametrize("name", ["plain.img", "with space.img", "back\\slash.img", "new\nline.img", "a(b)c.img"])
@pytest.mark.parametrize(
    ("tool", "algorithm"),
    [
        (("md5sum",), "md5"),
        (("sha256sum",), "sha256"),
        (("sha512sum", "--binary"), "sha512"),
        (("sha384sum", "--tag"), "sha384"),
        (("b2sum", "--tag"), "blake2b"),
        (("openssl", "dgst", "-sha3-256"), "sha3_256"),
        (("openssl", "dgst", "-sha256"), "sha256"),
    ],
)
def test_what_programs_write(tmp_path: Path, tool: tuple[str, ...], algorithm: str, name: str) -> None:
    if tool[0] == "openssl" and "\n" in name:
        name = "plain.img"  # it doesn't escape
    (tmp_path / name).write_bytes(BODY)
    text = subprocess.run([*tool, f"./{name}"], cwd=tmp_path, check=True, capture_output=True).stdout.decode()
    assert find(text, name) == Checksum(algorithm=Algorithm(algorithm), value=hashlib.new(algorithm, BODY).hexdigest())


def test_a_value_alone_is_what_the_caller_says() -> None:
    value = hashlib.blake2b(BODY).hexdigest()
    assert find(f"{value}  disk.img", algorithm=Algorithm.BLAKE2B).algorithm is Algorithm.BLAKE2B
    assert find(value, algorithm=Algorithm.BLAKE2B).algorithm is Algorithm.BLAKE2B
    assert find(value).algorithm is Algorithm.SHA512
    assert find(f"{SHA512}  disk.img\n{SHA256}  disk.img", algorithm=Algorithm.SHA256) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA256}  disk.img\n{OTHER}  disk.img\n",
        f"{SHA256}  disk.img\n{OTHER}  ./disk.img\n",
        f"{SHA256}  a/disk.img\n{OTHER}  b/disk.img\n",
        f"{SHA256}\n{OTHER}\n",
        f"{SHA256}  disk.img\nSHA256 (disk.img) = {OTHER}\n",
    ],
)
def test_what_leaves_a_choice_is_refused(text: str) -> None:
    with pytest.raises(ChecksumInvalid, match="several sha256 checksums"):
        find(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>404</html>",
        f"{SHA256}  other.img\n",
        f"{SHA256[:-1]}  disk.img\n",
        f"SHA256 (disk.img) = {SHA512}\n",
        f"CRC32 (disk.img) = {SHA256}\n",
        f"{SHA256}  DISK.IMG\n",
        f"{SHA256}  other.img\n{OTHER}\n",
    ],
)
def test_a_file_without_the_checksum(text: str) -> None:
    with pytest.raises(ChecksumInvalid, match=r"from SUMS: it has no checksum of 'disk\.img'"):
        find(text)


def test_an_error_names_a_few_of_the_names() -> None:
    text = "".join(f"{SHA256}  {number}.img\n" for number in range(1000))
    with pytest.raises(ChecksumInvalid, match=r"only of '0\.img', .*'4\.img' and others$"):
        find(text)


@given(st.text(max_size=200), st.text(min_size=1, max_size=20))
def test_any_text_gives_a_checksum_or_a_typed_error(text: str, name: str) -> None:
    with suppress(ChecksumInvalid):
        assert find(text, name).value in text.lower()
    with suppress(ChecksumInvalid):
        assert parse_checksum(text).value in text.lower()


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_live_digest_is_that_of_what_has_passed(algorithm: Algorithm) -> None:
    body = os.urandom(100_000)
    live = LiveDigest(algorithm)
    live.update(memoryview(body)[:40_000])
    then = live.copy()
    live.update(bytearray(body[40_000:]))
    assert (then.position, live.position) == (40_000, 100_000)
    assert then.checksum().value == hashlib.new(algorithm, body[:40_000]).hexdigest()
    assert live.checksum().value == hashlib.new(algorithm, body).hexdigest()
    live.check(parse_checksum(f"{algorithm}:{hashlib.new(algorithm, body).hexdigest().upper()}"), image="disk.img")
    with pytest.raises(ChecksumMismatch, match=r"disk\.img has the .* checksum") as caught:
        live.check(then.checksum(), image="disk.img")
    assert caught.value.wanted == then.checksum().value
    assert caught.value.found == live.checksum().value
