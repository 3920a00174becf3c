"""What inspection finds out without writing anything, and what it refuses."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from pathlib import Path
from typing import cast

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    ChecksumInvalid,
    FormatMismatch,
    ImageDamaged,
    ImageRefused,
    LayoutInvalid,
    SourceFailed,
    ToolMissing,
)
from libironic_disk.images import Algorithm, Checksum, Compression, Engine, ImageFormat, Location
from libironic_disk.machine import process
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.units import MIB
from tests.support.badserver import ImageServer
from tests.support.oracles import output
from tests.support.qcow2_images import SOUND, converted, raw_image
from tests.support.webserver import serving
from tests.support.written import PACKERS, packed, used, write

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2
FOREIGN = {"vmdk": ImageFormat.VMDK, "vpc": ImageFormat.VHD, "vhdx": ImageFormat.VHDX, "vdi": ImageFormat.VDI}
"""qemu's names of drivers, and ours of what they make."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw")


def foreign(raw: Path, path: Path, driver: str) -> Path:
    # Without it a VHD has a size that cylinders and heads can express.
    exact = ("-o", "force_size=on") if driver == "vpc" else ()
    output("qemu-img", "convert", "-f", "raw", "-O", driver, *exact, str(raw), str(path))
    return path


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("kind", [RAW, QCOW2])
def test_compression_around_an_image_is_seen_through(raw: Path, tmp_path: Path, pack: str, kind: ImageFormat) -> None:
    path = packed(raw if kind is RAW else converted(raw, tmp_path / "image.qcow2"), pack)
    for source in (path, io.BytesIO(path.read_bytes())):
        image = images.inspect(source, declared=kind)
        assert (image.format, image.compression) == (kind, Compression(pack))
        # How much a raw image unpacks to is known when it has.
        assert image.virtual_size == (24 * MIB if kind is QCOW2 else None)
        assert (image.header is not None) is (kind is QCOW2)
        other = {RAW: QCOW2, QCOW2: RAW}[kind]
        with pytest.raises(FormatMismatch):
            images.inspect(path, declared=other)


@pytest.mark.parametrize("inner", PACKERS)
@pytest.mark.parametrize("outer", ["gzip", "zstd"])
def test_what_is_compressed_twice_is_refused(tmp_path: Path, inner: str, outer: str) -> None:
    plain = tmp_path / "image"
    plain.write_bytes(b"image" * 1000)
    with pytest.raises(ImageRefused, match="compressed twice"):
        images.inspect(packed(packed(plain, inner), outer))


@pytest.mark.parametrize("pack", PACKERS)
def test_a_short_file_that_unpacks_to_too_little_is_found(tmp_path: Path, pack: str) -> None:
    plain = tmp_path / "image"
    plain.write_bytes(b"image" * 1000)
    whole = packed(plain, pack).read_bytes()
    assert images.inspect(io.BytesIO(whole)).compression == pack
    for length in (8, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ImageDamaged, match="truncated"):
            images.inspect(io.BytesIO(whole[:length]))
    with pytest.raises(ImageDamaged, match="followed by something else"):
        images.inspect(io.BytesIO(whole + b"something else"))
    plain.write_bytes(b"")
    with pytest.raises(ImageRefused, match="it is empty"):
        images.inspect(packed(plain, pack))


def test_no_more_is_taken_from_a_stream_than_is_kept(raw: Path) -> None:
    stream = io.BytesIO(raw.read_bytes())
    images.inspect(stream)
    assert stream.tell() == HEAD
    # A zip bomb unpacks to no more than that either.
    bomb = io.BytesIO(gzip.compress(bytes(300 * MIB), 1))
    assert images.inspect(bomb).format is RAW


@pytest.mark.parametrize("name", ["sha256", "SHA-512", "md5", "blake2b"])
def test_a_checksum_has_many_forms(raw: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    algorithm = Algorithm(name.lower().replace("-", ""))
    value = hashlib.new(algorithm, raw.read_bytes()).hexdigest()
    wanted = Checksum(algorithm=algorithm, value=value)
    sums = tmp_path / "SUMS"
    sums.write_text(f"{algorithm.upper()} (image.raw) = {value}\n")
    with serving() as server:
        url = server.page("/SUMS", sums.read_bytes())
        forms = (
            wanted,
            f"{name}:{value}",
            f"{name}:{value.upper()}",
            sums,
            sums.as_uri(),
            url,
            Location(url=f"{url}?signature=x"),
        )
        for form in forms:
            assert images.inspect(raw, checksum=form).checksum == wanted
            # A stream is looked for by the name that it is given.
            stream = io.BytesIO(raw.read_bytes())
            assert images.inspect(stream, name="image.raw", checksum=form).checksum == wanted


def test_an_image_on_a_server_is_called_in_checksum_files_as_in_its_url(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    value = hashlib.sha256(raw.read_bytes()).hexdigest()
    with serving() as server:
        served = ImageServer(server=server, body=raw.read_bytes())
        sums = server.page("/SUMS", f"{value}  disk.img\n".encode())
        assert images.inspect(f"{served.url}?token=x", checksum=sums).checksum == Checksum(
            algorithm=Algorithm.SHA256, value=value
        )
        with pytest.raises(ChecksumInvalid, match="it has no checksum of"):
            images.inspect(raw, checksum=sums)


@pytest.mark.parametrize(
    "checksum", ["", "sha256:", "crc32:00000000", "md5:" + "0" * 31, "0" * 31, "sha256:" + "g" * 64]
)
def test_what_is_no_checksum_is_refused(raw: Path, checksum: str) -> None:
    with pytest.raises(ChecksumInvalid):
        images.inspect(raw, checksum=checksum)


def test_places_of_checksums_are_checked_as_those_of_images(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="URLs of the kind ftp are not read"):
        images.inspect(raw, checksum="ftp://example.org/SUMS")
    with pytest.raises(SourceFailed, match="No such file"):
        images.inspect(raw, checksum=tmp_path / "absent")


def test_engines_and_formats_have_words(raw: Path, tmp_path: Path) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    for engine in Engine:
        image = images.inspect(path, engine=cast("Engine", str(engine)), declared=cast("ImageFormat", "qcow2"))
        assert image.engine is engine
        assert image.format is QCOW2
    assert images.inspect(path).engine is Engine.NATIVE
    with pytest.raises(LayoutInvalid, match="engine is 'dd': it must be one of native, qemu-img"):
        images.inspect(path, engine=cast("Engine", "dd"))
    with pytest.raises(LayoutInvalid, match="declared is 'qcow'"):
        images.inspect(path, declared=cast("ImageFormat", "qcow"))


@pytest.mark.parametrize("driver", FOREIGN)
def test_other_formats_are_written_by_qemu_img_and_no_other_way(raw: Path, tmp_path: Path, driver: str) -> None:
    path = foreign(raw, tmp_path / "image", driver)
    kind = FOREIGN[driver]
    for declared in (None, kind):
        with pytest.raises(ImageRefused, match=f"^image .* {kind} images are not written.*engine=qemu-img"):
            images.inspect(path, declared=declared)
        image = images.inspect(path, declared=declared, engine=Engine.QEMU_IMG)
        assert (image.format, image.virtual_size) == (kind, 24 * MIB)
        assert images.required_tools(image) == ("qemu-img",)
        target = used(tmp_path / "target", 24 * MIB)
        write(image, target)
        assert target.read_bytes() == raw.read_bytes()
    with pytest.raises(FormatMismatch, match=f"declared as raw but its bytes are {kind}"):
        images.inspect(path, declared=RAW, engine=Engine.QEMU_IMG)
    with pytest.raises(FormatMismatch, match=f"declared as {kind} but its bytes are raw"):
        images.inspect(raw, declared=kind, engine=Engine.QEMU_IMG)


def test_a_format_that_nothing_writes_is_refused_with_either_engine(tmp_path: Path) -> None:
    path = tmp_path / "image"
    output("qemu-img", "create", "-q", "-f", "qed", str(path), "8M")
    for engine in Engine:
        with pytest.raises(ImageRefused, match=r"qed images are not written; convert it to qcow2 or raw$"):
            images.inspect(path, engine=engine)


@pytest.mark.parametrize(
    "extent",
    [
        'RW 2048 FLAT "/etc/shadow" 0',
        'RW 2048 VMFS "/etc/shadow"',
        'RW 2048 SPARSE "../secret.vmdk"',
        'RW 2048 SPARSE "image.vmdk"\nRW 2048 SPARSE "/etc/shadow"',
    ],
    ids=["flat", "vmfs", "folder", "second"],
)
def test_a_vmdk_that_leads_elsewhere_is_refused_before_qemu_img_sees_it(
    raw: Path, tmp_path: Path, extent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign(raw, tmp_path / "image.vmdk", "vmdk")
    ran: list[tuple[str, ...]] = []
    whole = path.read_bytes()
    # A text of some sectors behind the header, padded with zeros.
    descriptor = whole[512 : whole.index(b"\0", 512)]
    changed = descriptor.replace(b'RW 49152 SPARSE "image.vmdk"', extent.encode())
    assert changed != descriptor
    size = max(len(descriptor), len(changed))
    path.write_bytes(whole[:512] + changed.ljust(size, b"\0") + whole[512 + size :])
    monkeypatch.setattr(process, "run", lambda *argv, **options: ran.append(argv))
    with pytest.raises(ImageRefused, match=r"isn't safe to read \(descriptor"):
        images.inspect(path, engine=Engine.QEMU_IMG)
    assert not ran


@pytest.mark.parametrize("header", [b"", struct.pack("<4sIIQQQQIQQ", b"KDMV", 1, 3, 0, 128, 1, 20, 512, 21, 26)])
def test_a_vmdk_that_oslo_utils_and_qemu_read_differently_is_refused(
    tmp_path: Path, header: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To QEMU it is a list of files: the type that counts there isn't the first, and there is no slash in the names."""
    (tmp_path / "secret").write_bytes(b"secret! " * 1024)
    lines = (
        *("# Disk DescriptorFile", "version=1", "CID=fffffffe", "parentCID=ffffffff"),
        *('createtype="monolithicSparse"', 'createType="monolithicFlat"', 'RW 16 FLAT "secret" 0', ""),
    )
    path = tmp_path / "image.vmdk"
    path.write_bytes(header.ljust(512 if header else 0, b"\0") + "\n".join(lines).encode())
    if header:
        # As much room as the header says that there is for the description.
        path.write_bytes(path.read_bytes().ljust(2 * MIB, b"\0"))
    output("qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(path), str(tmp_path / "read"))
    assert (tmp_path / "read").read_bytes() == b"secret! " * 1024
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(process, "run", lambda *argv, **options: ran.append(argv))
    with pytest.raises(ImageRefused, match="isn't safe to read"):
        images.inspect(path, engine=Engine.QEMU_IMG)
    assert not ran


def test_a_missing_qemu_img_is_missed_when_another_format_is_looked_at(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign(raw, tmp_path / "image", "vdi")
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-utils"):
        images.inspect(path, engine=Engine.QEMU_IMG)
    assert images.inspect(raw, engine=Engine.QEMU_IMG).format is RAW


def test_every_table_of_a_file_is_checked(tmp_path: Path) -> None:
    """In a stream, and under compression, they are checked as they come."""
    path = tmp_path / "image.qcow2"
    path.write_bytes(SOUND.but(l2={3: 100 << 16}).image())
    for engine in Engine:
        with pytest.raises(ImageDamaged, match="truncated: a data cluster reaches to byte"):
            images.inspect(path, engine=engine)
    with pytest.raises(ImageDamaged, match="truncated: a data cluster reaches to byte"):
        write(images.inspect(packed(path, "gzip")), used(tmp_path / "target", MIB))


def test_an_announced_size_is_that_of_the_source(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        served = ImageServer(server=server, body=raw.read_bytes())
        for source in (raw, served.url):
            assert images.inspect(source, size=24 * MIB).virtual_size == 24 * MIB
            with pytest.raises(SourceFailed, match=r"it has 25165824 bytes, 25165825 were announced"):
                images.inspect(source, size=24 * MIB + 1)
