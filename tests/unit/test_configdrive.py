"""Config drives in every form they come in, on every sector size, and what becomes of bad ones."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libironic_disk import configdrive
from libironic_disk.configdrive import ConfigDrive, Metadata, Source, VolumeKind, build, fitted, load
from libironic_disk.errors import (
    ConfigDriveInvalid,
    ConfigDriveTooLarge,
    DiskError,
    ProgramFailed,
    RequestError,
    SourceFailed,
)
from libironic_disk.machine import http, process
from libironic_disk.machine.http import HttpPolicy
from tests.support import configdrives as images
from tests.support.webserver import serving

KIB, MIB = 1024, 1024 * 1024
HIDDEN = "hunter2"
METADATA = Metadata(
    meta_data={"uuid": "1", "name": "node"},
    user_data="#!/bin/sh\n",
    network_data={"links": []},
    vendor_data={"a": 1},
)


def _lines(data: bytes) -> str:
    return base64.encodebytes(data).decode().replace("\n", "\r\n")


FORMS: dict[str, Callable[[bytes], Source]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "gzip": gzip.compress,
    "gzip-members": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    "base64": base64.b64encode,
    "base64-text": lambda data: base64.b64encode(data).decode(),
    "base64-gzip": lambda data: base64.b64encode(gzip.compress(data)),
    "base64-gzip-lines": lambda data: "\n " + _lines(gzip.compress(data)) + "\n",
}
DRIVES = {
    "iso": images.iso(images.SMALL, "-R", "-J"),
    "iso-hybrid": b"\x1f\x8b\x08" + images.iso(images.SMALL, "-R")[3:],
    "iso-upper": images.iso(images.SMALL, "-R", label="CONFIG-2"),
    "fat12": images.fat(),
    "fat16": images.fat(size=32 * MIB),
    "fat32": images.fat(images.SMALL, "-F", "32", "-s", "1", size=40 * MIB),
    "fat-4096": images.fat(sector_size=4096),
    "fat-lower": images.fat(label="config-2"),
}


@pytest.fixture(params=DRIVES)
def drive(request: pytest.FixtureRequest) -> bytes:
    """A real drive of each kind."""
    return DRIVES[request.param]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_drive_keeps_its_bytes(form: str, drive: bytes, tmp_path: Path) -> None:
    given = FORMS[form](drive)
    loaded = load(given)
    facts = images.probed(drive)
    assert loaded.data == drive
    assert loaded.size == len(drive)
    assert (loaded.kind, loaded.label) == (facts["TYPE"], facts["LABEL"])
    raw = given.encode() if isinstance(given, str) else bytes(memoryview(given))  # type: ignore[arg-type]
    (tmp_path / "drive").write_bytes(raw)
    assert load(tmp_path / "drive") == loaded
    with serving() as server:
        assert load(f" {server.page('/drive', raw)}?signature=1\n") == loaded


@pytest.mark.parametrize("sector_size", [512, 1024, 2048])
def test_built_as_iso_where_that_can_be_mounted(sector_size: int) -> None:
    built = build(METADATA, sector_size=sector_size)
    assert (built.kind, built.sector_size, built.label) == (VolumeKind.ISO9660, 2048, "config-2")
    _check_contents(images.iso_files(built.data))
    assert load(built.data) == built


def test_built_as_fat_elsewhere() -> None:
    built = build(METADATA, sector_size=4096)
    assert (built.kind, built.sector_size, built.label) == (VolumeKind.FAT, 4096, "CONFIG-2")
    assert images.probed(built.data)["BLOCK_SIZE"] == "4096"
    images.check_fat(built.data)
    _check_contents(images.fat_files(built.data))
    assert load(built.data, sector_size=4096) == built


def _check_contents(files: dict[str, bytes]) -> None:
    for version in ("latest", "2012-08-10"):
        assert json.loads(files.pop(f"openstack/{version}/meta_data.json")) == METADATA.meta_data
        assert files.pop(f"openstack/{version}/user_data") == b"#!/bin/sh\n"
        assert json.loads(files.pop(f"openstack/{version}/network_data.json")) == METADATA.network_data
        assert json.loads(files.pop(f"openstack/{version}/vendor_data2.json")) == METADATA.vendor_data
    assert files == {}


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_mapping_is_metadata(sector_size: int) -> None:
    mapping: dict[str, object] = {
        "meta_data": METADATA.meta_data,
        "user_data": METADATA.user_data,
        "network_data": METADATA.network_data,
        "vendor_data": METADATA.vendor_data,
    }
    assert load(mapping, sector_size=sector_size) == build(METADATA, sector_size=sector_size)
    assert load(METADATA, sector_size=sector_size) == build(METADATA, sector_size=sector_size)


def test_a_drive_that_fits_stays_as_it_is_and_any_other_becomes_fat(drive: bytes) -> None:
    loaded = load(drive)
    assert fitted(loaded, 512) is loaded
    if loaded.sector_size == 4096:
        assert fitted(loaded, 4096) is loaded
        return
    rebuilt = fitted(loaded, 4096)
    assert rebuilt == load(drive, sector_size=4096)
    assert (rebuilt.kind, rebuilt.sector_size) == (VolumeKind.FAT, 4096)
    assert images.probed(rebuilt.data).items() >= {"LABEL": "CONFIG-2", "BLOCK_SIZE": "4096"}.items()
    images.check_fat(rebuilt.data)
    assert images.fat_files(rebuilt.data) == images.SMALL


def test_what_was_built_for_one_disk_moves_to_another() -> None:
    assert fitted(build(METADATA), 4096) == build(METADATA, sector_size=4096)


@pytest.mark.parametrize("label", ["cidata", "config-22", "", "CONFIG_2"])
def test_another_label_is_named(label: str) -> None:
    for data in (images.fat(label=label), images.iso(images.SMALL, label=label or " ")):
        with pytest.raises(ConfigDriveInvalid) as caught:
            load(data)
        assert f"its label is {label!r}" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 511, 32768, 40_000, -1])
def test_truncated_drives(keep: int, drive: bytes) -> None:
    for form in ("bytes", "gzip", "base64", "base64-gzip"):
        with pytest.raises(ConfigDriveInvalid):
            load(FORMS[form](drive[:keep]))


@pytest.mark.parametrize(
    "source",
    [
        b"",
        "",
        "/etc/passwd",
        "drive.iso",
        "ftp://host/drive",
        "ünïcode",
        "AAAA",
        b"\0" * 100_000,
        gzip.compress(b"text"),
        gzip.compress(gzip.compress(DRIVES["iso"])),
        base64.b64encode(base64.b64encode(DRIVES["iso"])),
        gzip.compress(base64.b64encode(DRIVES["iso"])),
        gzip.compress(DRIVES["iso"])[:-1],
        gzip.compress(DRIVES["iso"]) + b"x",
        base64.b64encode(DRIVES["iso"])[:-1],
        {},
        {"meta_data": 1},
    ],
)
def test_not_a_config_drive(source: Source) -> None:
    with pytest.raises(ConfigDriveInvalid):
        load(source)


def test_no_source_at_all() -> None:
    with pytest.raises(ConfigDriveInvalid, match="NoneType"):
        load(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_the_limit_counts_the_drive_however_it_is_wrapped(form: str, tmp_path: Path) -> None:
    data = DRIVES["fat12"]
    assert load(FORMS[form](data), limit=len(data)).data == data
    with pytest.raises(ConfigDriveTooLarge):
        load(FORMS[form](data), limit=len(data) - 1)
    with pytest.raises(ConfigDriveTooLarge) as caught:
        load(FORMS[form](os.urandom(MIB)), limit=256 * KIB)
    assert caught.value.limit == 256 * KIB


def test_the_limit_of_metadata() -> None:
    large = Metadata(meta_data={}, user_data=bytes(50 * KIB))
    for sector_size in (512, 4096):
        with pytest.raises(ConfigDriveTooLarge):
            build(large, limit=64 * KIB, sector_size=sector_size)


def test_a_file_or_body_without_end_is_read_to_the_limit_alone(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(MIB * MIB)
    with pytest.raises(ConfigDriveTooLarge):
        load(tmp_path / "sparse", limit=MIB)
    with serving() as server, pytest.raises(ConfigDriveTooLarge):
        load(server.page("/large", bytes(4 * MIB)), limit=MIB)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigDriveInvalid, match="not a regular file"):
            load(path)
    with pytest.raises(SourceFailed, match="No such file"):
        load(tmp_path / "missing")
    (tmp_path / "link").symlink_to(tmp_path / "drive")
    (tmp_path / "drive").write_bytes(DRIVES["iso"])
    assert load(tmp_path / "link").data == DRIVES["iso"]


def test_many_threads_at_once(tmp_path: Path) -> None:
    def both(number: int) -> tuple[ConfigDrive, ConfigDrive]:
        source = DRIVES["iso"] if number % 2 else METADATA
        return load(source, sector_size=4096, tempdir=tmp_path), load(source)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(both, range(24)))
    assert made == [made[number % 2] for number in range(24)]
    assert list(tmp_path.iterdir()) == []


def _poisoned(drive: bytes) -> bytes:
    """The drive with a file name that leads elsewhere, in Rock Ridge and in FAT's long names."""
    assert b"user_data" in drive
    return drive.replace(b"user_data", b"user/data")


SECRETS: dict[str, object] = {
    "meta_data": {HIDDEN: HIDDEN},
    "user_data": HIDDEN,
    "network_data": {HIDDEN: [HIDDEN]},
    "vendor_data": {HIDDEN: HIDDEN},
}
SECRET_TREE = {"openstack/latest/user_data": HIDDEN.encode() * 1000, f"openstack/{HIDDEN}": HIDDEN.encode()}
SECRET_ISO = images.iso(SECRET_TREE, "-R", "-J")
SECRET_FAT = images.fat(SECRET_TREE)
FAILURES: dict[str, tuple[Source, int, int]] = {
    "nan": (SECRETS | {"vendor_data": {HIDDEN: float("nan")}}, 512, 64 * MIB),
    "not-json": (SECRETS | {"network_data": {HIDDEN: {HIDDEN}}}, 512, 64 * MIB),
    "not-text": (SECRETS | {"meta_data": {HIDDEN: {7: HIDDEN}}}, 512, 64 * MIB),
    "not-unicode": (SECRETS | {"user_data": HIDDEN + "\udcff"}, 512, 64 * MIB),
    "not-a-mapping": (SECRETS | {"meta_data": HIDDEN}, 512, 64 * MIB),
    "other-keys": (SECRETS | {HIDDEN: HIDDEN}, 512, 64 * MIB),
    "metadata-too-large": (SECRETS, 512, 40),
    "drive-too-large": (SECRETS, 512, 4 * KIB),
    "text": (HIDDEN, 512, 64 * MIB),
    "text-not-ascii": (HIDDEN + "ü", 512, 64 * MIB),
    "bytes": (HIDDEN.encode(), 512, 64 * MIB),
    "base64-of-text": (base64.b64encode(HIDDEN.encode()), 512, 64 * MIB),
    "gzip-of-text": (gzip.compress(HIDDEN.encode()), 512, 64 * MIB),
    "gzip-damaged": (gzip.compress(HIDDEN.encode())[:-6] + b"hunter2", 512, 64 * MIB),
    "iso-cut": (SECRET_ISO[:-4096], 512, 64 * MIB),
    "iso-directories-gone": (SECRET_ISO[:40960] + bytes(12288) + SECRET_ISO[53248:], 4096, 64 * MIB),
    "iso-name": (_poisoned(SECRET_ISO), 4096, 64 * MIB),
    "iso-case": (images.iso({HIDDEN: b"", HIDDEN.upper(): b""}, "-R"), 4096, 64 * MIB),
    "iso-files-too-large": (SECRET_ISO, 4096, len(SECRET_ISO) - 1),
    "fat-chain": (SECRET_FAT[:512] + b"\xf8\xff\xff" * 341 + SECRET_FAT[1535:], 4096, 64 * MIB),
    "fat-cut": (SECRET_FAT[:-1], 512, 64 * MIB),
    "file": (Path("/dev/null"), 512, 64 * MIB),
}


@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_and_no_log_shows_the_contents(name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    source, sector_size, limit = FAILURES[name]
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RequestError) as caught:
        load(source, sector_size=sector_size, limit=limit, tempdir=tmp_path)
    _assert_silent(caught.value, caplog)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["mkfs.vfat", "mmd", "mcopy"])
@pytest.mark.parametrize("source", [SECRETS, SECRET_FAT], ids=["metadata", "fat"])
def test_nor_does_a_program_that_fails(
    broken: str,
    source: Source,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        if argv[0] == broken:
            raise ProgramFailed(argv=argv, stderr="no", exit_code=1)
        return really(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    caplog.set_level(logging.DEBUG)
    secrets = SECRETS if source is SECRETS else images.fat({"a/user_data": HIDDEN.encode()})
    with pytest.raises(ProgramFailed) as caught:
        load(secrets, sector_size=4096, tempdir=tmp_path)
    _assert_silent(caught.value, caplog)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_nor_does_success(sector_size: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    drive = load(SECRETS, sector_size=sector_size)
    assert HIDDEN.encode() in drive.data
    assert HIDDEN not in repr(drive)
    assert (sector_size == 512) == (caplog.text == "")  # oslo.concurrency logs the commands that make a FAT
    assert HIDDEN not in caplog.text


def test_nor_does_a_server(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    with serving() as server:
        server.page("/cut", HIDDEN.encode(), Content_Length="99")
        server.page("/gone", HIDDEN.encode(), status=404)
        server.page("/other", HIDDEN.encode())
        for path in ("cut", "gone", "other"):
            with pytest.raises(DiskError) as caught:
                load(f"http://me:{HIDDEN}@{server.host}/{path}", http_policy=HttpPolicy(attempts=1))
            _assert_silent(caught.value, caplog)


def _assert_silent(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    assert HIDDEN not in caplog.text
    for record in caplog.records:
        assert HIDDEN not in f"{record.__dict__}"
    waiting: list[BaseException | None] = [raised]
    while waiting:
        error = waiting.pop()
        if error is not None:
            shown = f"{error} {error!r} {error.args!r} {vars(error)!r} {getattr(error, '__notes__', '')}"
            assert HIDDEN not in shown
            waiting += [error.__cause__, error.__context__]


@pytest.mark.parametrize("path", ["/srv/drive.iso", "drive.iso", "config/drive"])
def test_a_path_as_a_text_is_told_from_a_drive(path: str) -> None:
    with pytest.raises(ConfigDriveInvalid, match=r"a path, which has to be a pathlib\.Path") as refused:
        load(path)
    assert path not in str(refused.value)


def test_the_documented_names() -> None:
    for name in configdrive.__all__:
        assert getattr(configdrive, name)
    assert HttpPolicy() == http.DEFAULT_POLICY
