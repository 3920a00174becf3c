"""Changed images are what was asked for, by xorriso, isoinfo, sgdisk and checkisomd5, and nothing else is changed."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from lab.isolayouts import IsoLayout, Names
from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.changing import IsoEdit, MediaChecksum, edited
from libironic_disk.pure.iso.image import IsoImage, read_image
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.ropes import Range, Rope
from tests.support import isos
from tests.support.isos import Memory

SECTOR = 2048
NEW = {
    "/layout.txt": b"It is longer, and fits\n",
    "/pieces/01.bin": b"",
    "/pieces/02.bin": bytes(SECTOR),
    "/pieces/03.bin": b"3" * (SECTOR + 1),
    "/new.txt": b"new\n",
    "/empty.txt": b"",
    "/boot/grub/more.cfg": b"# more\n" * 1000,
    "/new/sub/file.cfg": b"deep\n",
    "/new/sub/more.cfg": b"deeper\n",
}


def put(base: Memory, files: Mapping[str, bytes]) -> Memory:
    """The image with these files, and the rules that hold for every one."""
    image = read_image(base)
    rope = edited(image, base, IsoEdit(files={path: Rope.of(data) for path, data in files.items()}))
    changed = isos.rendered(rope, base)
    assert changed.size % SECTOR == 0
    assert rope.inline_size < sum(map(len, files.values())) + 300_000
    expected = {**isos.contents(base, image), **files}
    assert not set(isos.differences(isos.contents(changed), expected)) - isos.CATALOGS - loaders(image)
    return changed


def loaders(image: IsoImage) -> set[str]:
    """What has a table inside of it that says where it is."""
    return {each.path for each in image.boot_images if each.path is not None and each.firmware is Firmware.BIOS}


@pytest.mark.parametrize(("kind", "names"), isos.LAYOUTS)
def test_files_of_all_sizes_in_all_layouts(tmp_path: Path, kind: IsoLayout, names: Names) -> None:
    base = isos.layout(kind, names)
    changed = put(base, NEW)
    before, after = tmp_path / "before.iso", tmp_path / "after.iso"
    before.write_bytes(base.data)
    after.write_bytes(changed.data)
    assert isos.table_problems(after) == isos.table_problems(before)
    if names in {Names.ROCK_RIDGE, Names.BOTH}:
        assert not set(isos.differences(isos.by_xorriso(after), isos.contents(changed))) - isos.CATALOGS
        assert isos.by_isoinfo(after, "-R", "/new/sub/file.cfg") == NEW["/new/sub/file.cfg"]
    if names in {Names.JOLIET, Names.BOTH}:
        found = {isos.by_isoinfo(after, "-J", f"/new/sub/file.cfg{version}") for version in ("", ";1")}
        assert NEW["/new/sub/file.cfg"] in found
    trees = isos.names_by_tree(changed)
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("names", [Names.ROCK_RIDGE, Names.BOTH])
def test_the_partition_with_the_tree_shows_the_same(tmp_path: Path, names: Names) -> None:
    changed = put(isos.layout(IsoLayout.GRUB, names), NEW)
    view = isos.partition_with_tree(changed)
    assert view is not None
    path = tmp_path / "partition.iso"
    path.write_bytes(view.data)
    assert isos.differences(isos.contents(view), isos.contents(changed)) == []
    assert isos.differences(isos.by_xorriso(path), isos.contents(changed)) == []


@pytest.mark.parametrize("kind", [kind for kind in IsoLayout if kind is not IsoLayout.GRUB_ESP_MENU])
def test_boot_images_that_grow_are_still_found(tmp_path: Path, kind: IsoLayout) -> None:
    base = isos.layout(kind)
    image = read_image(base)
    contents = isos.contents(base, image)
    paths = [each.path for each in image.boot_images if each.path is not None]
    changed = put(base, {path: contents[path] + bytes(range(256)) * 100 for path in paths})
    now = read_image(changed)
    assert [each.path for each in now.boot_images] == [each.path for each in image.boot_images]
    path = tmp_path / "image.iso"
    path.write_bytes(changed.data)
    before = tmp_path / "before.iso"
    before.write_bytes(base.data)
    commands = ("-report_el_torito", "plain", "-report_system_area", "plain")
    for word in (
        "El Torito img path",
        "El Torito img opts",
        "GPT partition path",
        "MBR partition path",
        "System area s",
    ):
        lines = [
            [line for line in isos.report_of(each, *commands).splitlines() if line.startswith(word)]
            for each in (before, path)
        ]
        assert lines[0] == lines[1]


def test_the_code_in_the_mbr_finds_a_loader_that_moved() -> None:
    for kind in (IsoLayout.ISOLINUX, IsoLayout.ISOLINUX_XORRISO, IsoLayout.GRUB, IsoLayout.GRUB_MKRESCUE):
        base = isos.layout(kind)
        image = read_image(base)
        loader = next(each for each in image.boot_images if each.firmware is Firmware.BIOS)
        assert loader.path is not None
        content = isos.contents(base, image)[loader.path]
        changed = put(base, {loader.path: content + bytes(4096)})
        now = read_image(changed).boot_images[0]
        assert now.offset != loader.offset
        before, after = (struct.unpack_from("<Q", each.data, 432)[0] for each in (base, changed))
        assert after - before == (now.offset - loader.offset) // 512
        table = struct.unpack_from("<IIII", changed.data, now.offset + 8)
        words = struct.unpack_from(f"<{(now.size - 64 + 3) // 4}I", changed.data + bytes(3), now.offset + 64)
        assert table == (16, now.offset // SECTOR, now.size, sum(words) & 0xFFFFFFFF)


def test_no_directory_is_the_last_of_an_image(tmp_path: Path) -> None:
    """xorriso reads on behind it, and where the image ends with one of its blocks of 32 sectors, there is nothing."""
    base = isos.layout(IsoLayout.BIOS_ONLY, Names.JOLIET)
    path, block, tried = tmp_path / "image.iso", 32 * SECTOR, 0
    for sectors in range(32):
        files = {"/new/file": bytes(sectors * SECTOR)}
        changed = put(base, files)
        if {changed.size % block, (changed.size - SECTOR) % block} & {0}:
            path.write_bytes(changed.data)
            assert isos.by_xorriso(path)["/new/file"] == files["/new/file"]
            tried += 1
    assert tried == 2


def test_what_fits_changes_in_place() -> None:
    base = isos.layout(IsoLayout.GRUB)
    changed = put(base, {"/pieces/03.bin": b"shorter", "/layout.txt": b"longer" * 100})
    assert changed.size == base.size
    different = sum(a != b for a, b in zip(base.data, changed.data, strict=True))
    assert different < 2048 + 600 + 200


def test_nothing_to_change_is_the_same_image() -> None:
    base = isos.layout(IsoLayout.GRUB)
    image = read_image(base)
    whole = Rope.of(Range(0, base.size))
    assert edited(image, base, IsoEdit()) == whole
    assert edited(image, base, IsoEdit(volume_id=image.volume_id)) == whole
    same = {
        file.path: image.content(file.path) for file in image.files() if file.path not in isos.CATALOGS and file.size
    }
    assert isos.rendered(edited(image, base, IsoEdit(files=same)), base) == base


def test_contents_may_be_of_the_image_itself() -> None:
    base = isos.layout(IsoLayout.ISOLINUX)
    image = read_image(base)
    initrd = image.content("/boot/initrd.img")
    rope = edited(image, base, IsoEdit(files={"/boot/initrd.img": initrd + Rope.of(bytes(range(256)) * 40)}))
    assert (
        isos.contents(isos.rendered(rope, base))["/boot/initrd.img"]
        == isos.contents(base)["/boot/initrd.img"] + bytes(range(256)) * 40
    )
    assert rope.inline_size < 64 * 1024


def test_an_image_can_be_changed_again_and_again(tmp_path: Path) -> None:
    for kind in (IsoLayout.ISOLINUX_XORRISO, IsoLayout.GRUB, IsoLayout.GRUB_MKRESCUE):
        base = isos.layout(kind)
        for number in range(3):
            base = put(base, {f"/again/{number}/file": bytes(5000), "/boot/initrd.img": bytes(9000 * (number + 1))})
        path = tmp_path / "image.iso"
        path.write_bytes(base.data)
        assert not set(isos.differences(isos.by_xorriso(path), isos.contents(base))) - isos.CATALOGS


def test_files_with_one_place_for_both_are_told_apart(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_bytes(b"the same")
    (tree / "two").hardlink_to(tree / "one")
    base = isos.made(lambda path: subprocess.run(["genisoimage", "-quiet", "-R", "-J", "-o", path, tree], check=True))
    offsets = {file.offset for file in read_image(base).files()}
    assert len(offsets) == 1
    changed = put(base, {"/one": b"changed"})
    assert isos.contents(changed) == {"/one": b"changed", "/two": b"the same"}


def test_a_boot_image_outside_of_the_tree() -> None:
    base = isos.layout(IsoLayout.GRUB)
    image = read_image(base)
    found = image.boot_images[1]
    rope = edited(image, base, IsoEdit(boot_images={1: Rope.of(b"\xaa" * found.size)}))
    assert rope.size == base.size
    assert isos.rendered(rope, base).data == (
        base.data[: found.offset] + b"\xaa" * found.size + base.data[found.offset + found.size :]
    )
    with pytest.raises(IsoUnsupported, match="its new contents 3"):
        edited(image, base, IsoEdit(boot_images={1: Rope.of(b"abc")}))
    with pytest.raises(IsoUnsupported, match="none of them is number 7"):
        edited(image, base, IsoEdit(boot_images={7: Rope.of(b"abc")}))


def test_the_label_changes_in_every_tree(tmp_path: Path) -> None:
    base = isos.layout(IsoLayout.GRUB)
    changed = isos.rendered(edited(read_image(base), base, IsoEdit(volume_id="Another label 2")), base)
    image = read_image(changed)
    labels = [volume.label for each in image.descriptors for volume in each.volumes]
    assert labels == ["Another label 2"] * 4
    path = tmp_path / "image.iso"
    path.write_bytes(changed.data)
    assert re.search(r"^Volume Id +: Another label 2$", isos.report_of(path, "-pvd_info"), re.MULTILINE)
    for wrong in ("x" * 33, "ü", "two\nlines", " blank"):
        with pytest.raises(IsoUnsupported, match="can't be its volume id"):
            edited(image, changed, IsoEdit(volume_id=wrong))


@pytest.mark.parametrize("kind", [IsoLayout.GRUB, IsoLayout.ISOLINUX, IsoLayout.EFI_ONLY])
def test_media_checksums(tmp_path: Path, kind: IsoLayout) -> None:
    path = tmp_path / "image.iso"
    path.write_bytes(isos.layout(kind).data)
    subprocess.run(["implantisomd5", path], check=True, capture_output=True)
    base = Memory(path.read_bytes())
    image = read_image(base)
    assert image.media_checksum is not None
    same = isos.rendered(edited(image, base, IsoEdit(media_checksum=MediaChecksum.RENEWED)), base)
    assert same == base
    files = {"/new": Rope.of(bytes(range(256)) * 300)}
    for wanted, status in ((MediaChecksum.RENEWED, 0), (MediaChecksum.REMOVED, 1)):
        changed = isos.rendered(edited(image, base, IsoEdit(files=files, media_checksum=wanted)), base)
        path.write_bytes(changed.data)
        done = subprocess.run(["checkisomd5", path], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert (read_image(changed).media_checksum is None) == (wanted is MediaChecksum.REMOVED)


@pytest.mark.parametrize("size", [0, 1, 40_000, 688_127, 688_128, 3_000_000])
def test_a_media_checksum_is_the_one_that_implantisomd5_makes(tmp_path: Path, size: int) -> None:
    base = isos.layout(IsoLayout.GRUB)
    files = {"/new": Rope.of(Random(size).randbytes(size))}
    plain, renewed = (
        isos.rendered(edited(read_image(base), base, IsoEdit(files=files, media_checksum=wanted)), base)
        for wanted in (MediaChecksum.REMOVED, MediaChecksum.RENEWED)
    )
    path = tmp_path / "image.iso"
    path.write_bytes(plain.data)
    subprocess.run(["implantisomd5", path], check=True, capture_output=True)
    assert path.read_bytes() == renewed.data
    subprocess.run(["checkisomd5", path], check=True, capture_output=True)
    # One bit anywhere in what was put, and it says so.
    if size:
        damaged = bytearray(renewed.data)
        found = read_image(renewed).find("/new")
        assert found is not None
        damaged[found.offset] ^= 1
        path.write_bytes(damaged)
        assert subprocess.run(["checkisomd5", path], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("relative", "no absolute path"),
        ("/", "can't be the path"),
        ("/a/../b", "can't be the path"),
        ("/a//b", "can't be the path"),
        ("/a\0b", "can't be the path"),
        ("/" + "x" * 256, "can't be the path"),
        ("/boot", "is a directory"),
        ("/layout.txt/file", "is no directory"),
        ("/isolinux/boot.cat", "is its boot catalog"),
    ],
)
def test_paths_that_no_file_can_have(path: str, words: str) -> None:
    base = isos.layout(IsoLayout.BIOS_ONLY)
    with pytest.raises(IsoUnsupported, match=words):
        edited(read_image(base), base, IsoEdit(files={path: Rope.of(b"x")}))


def test_plain_names_are_all_that_some_images_have() -> None:
    base = isos.layout(IsoLayout.BIOS_ONLY, Names.PLAIN)
    assert isos.contents(put(base, {"/more/a_file": b"1", "/more/b.cfg": b"2"}))["/more/b.cfg"] == b"2"
    with pytest.raises(IsoUnsupported, match="neither Rock Ridge's names nor Joliet's"):
        put(base, {"/a file with blanks": b""})


def genisoimage(tree: Path, *options: str) -> Memory:
    return isos.made(
        lambda path: subprocess.run(["genisoimage", "-quiet", "-R", *options, "-o", path, tree], check=True)
    )


def test_a_udf_beside_the_tree_shows_the_same_or_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"contents")
    base = genisoimage(tmp_path, "-udf")
    assert isos.contents(put(base, {"/file": b"CONTENTS"})) == {"/file": b"CONTENTS"}
    for files in ({"/file": b"longer than that"}, {"/new": b""}):
        with pytest.raises(IsoUnsupported, match="it has a UDF, too"):
            put(base, files)


def test_directories_too_deep_for_iso_9660(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("tree", *"abcdefghijkl")
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep down")
    base = genisoimage(tmp_path / "tree")
    path = "/" + "/".join("abcdefghijkl")
    changed = put(base, {f"{path}/file": b"x" * 5000, f"{path}/new": b"new", "/top": b"top"})
    image = tmp_path / "image.iso"
    image.write_bytes(changed.data)
    assert isos.differences(isos.by_xorriso(image), isos.contents(changed)) == []
    assert isos.contents(put(base, {f"{path}/{number:03}": b"" for number in range(100)}))[f"{path}/099"] == b""
    # These would have to move, and with them links that only Rock Ridge has.
    for letters in ("abcdefg", "abcdefgh"):
        with pytest.raises(IsoUnsupported, match="too deep for ISO 9660"):
            put(base, {f"/{'/'.join(letters)}/{number:03}": b"" for number in range(100)})


def test_directories_that_move_with_all_that_is_in_them(tmp_path: Path) -> None:
    base = isos.layout(IsoLayout.GRUB)
    # Enough for the root and a directory with others in it to need more sectors.
    files = {
        f"{folder}/{number:03} a name that takes some room": b"%d" % number
        for folder in ("", "/boot")
        for number in range(60)
    }
    changed = put(base, files)
    path = tmp_path / "image.iso"
    path.write_bytes(changed.data)
    assert not set(isos.differences(isos.by_xorriso(path), isos.contents(changed))) - isos.CATALOGS
    assert isos.by_isoinfo(path, "-J", "/boot/059 a name that takes some room") == b"59"
    view = isos.partition_with_tree(changed)
    assert view is not None
    assert isos.differences(isos.contents(view), isos.contents(changed)) == []
    # By the path tables alone.
    table = subprocess.run(["isoinfo", "-p", "-i", path], check=True, capture_output=True, text=True).stdout
    found = {line.split()[-1] for line in table.splitlines() if line[:1].isdigit() or line.strip()[:1].isdigit()}
    assert {"BOOT", "GRUB", "LOADER", "ENTRIES", "PIECES"} <= found


def test_a_backup_gpt_that_was_misplaced_is_at_the_end(tmp_path: Path) -> None:
    original, path = tmp_path / "original.iso", tmp_path / "image.iso"
    original.write_bytes(isos.layout(IsoLayout.GRUB).data)
    (tmp_path / "new").write_bytes(bytes(5000))
    argv = ["xorriso", "-indev", str(original), "-outdev", str(path), "-boot_image", "any", "replay"]
    subprocess.run([*argv, "-map", str(tmp_path / "new"), "/new", "-commit"], check=True, capture_output=True)
    assert any("secondary header" in problem for problem in isos.table_problems(path))
    changed = put(Memory(path.read_bytes()), {"/layout.txt": bytes(9000)})
    path.write_bytes(changed.data)
    assert not any(problem.startswith("Problem") for problem in isos.table_problems(path))
    assert changed.data[-512:].startswith(b"EFI PART")
    # A header says in which sector it is; the words alone are in GRUB, too.
    last = changed.size // 512 - 1
    headers = [struct.unpack_from("<8s16xQ", changed.data, at) for at in range(0, changed.size, 512)]
    assert [at for at, header in enumerate(headers) if header == (b"EFI PART", at)] == [1, last]


def test_what_is_compressed_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(300_000))
    add = ["-map", str(tmp_path), "/", "-set_filter_r", "--zisofs", "/", "--", "-commit"]
    base = isos.made(
        lambda path: subprocess.run(["xorriso", "-outdev", str(path), *add], check=True, capture_output=True)
    )
    image = read_image(base)
    with pytest.raises(IsoUnsupported, match="is compressed"):
        image.content("/zeros")
    with pytest.raises(IsoUnsupported, match="is compressed"):
        edited(image, base, IsoEdit(files={"/zeros": Rope.of(b"x")}))
