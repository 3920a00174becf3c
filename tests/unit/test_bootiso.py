"""Boot ISOs of every layout: what is found in them, and what becomes of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.isolayouts import (
    ESP_CONFIG,
    ESP_IMAGE,
    GRUB_ENTRIES,
    INITRD,
    ISOLINUX_CONFIG,
    ISOLINUX_ENTRIES,
    LOADER_ENTRY,
    PARAMETERS,
    PLACEHOLDER,
    VOLUME_ID,
    IsoLayout,
    Names,
    make,
)
from libironic_disk import bootiso
from libironic_disk.bootiso import BootIso, LoaderKind, MediaChecksum, PatchedIso, Place
from libironic_disk.errors import (
    BootIsoRefused,
    DiskError,
    IsoInvalid,
    KernelParametersInvalid,
    NotEnoughRoom,
    ProgramFailed,
    SourceChanged,
    SourceFailed,
)
from libironic_disk.pure.roles import Firmware
from tests.support import bootisos, isos, oracles
from tests.support.bootisos import change

ISOLINUX = (IsoLayout.BIOS_ONLY, IsoLayout.ISOLINUX, IsoLayout.ISOLINUX_XORRISO)
GRUB_FOR_BIOS = (IsoLayout.GRUB, IsoLayout.GRUB_ESP_MENU, IsoLayout.GRUB_MKRESCUE)
CHANGE = change("ours=1 console=tty0", replace="lab.layout=patched", delete=("quiet",))
CHANGED = "console=ttyS0 lab.layout=patched ours=1 console=tty0 ---"

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[IsoLayout], Path]:
    """Make the image of a layout, once."""
    folder = tmp_path_factory.mktemp("isos")

    def get(layout: IsoLayout) -> Path:
        path = folder / f"{layout}.iso"
        return path if path.exists() else make(layout, path)

    return get


@pytest.fixture
def iso(made: Callable[[IsoLayout], Path]) -> Iterator[BootIso]:
    """The layout that most distributions have."""
    with bootiso.open_iso(made(IsoLayout.GRUB)) as opened:
        yield opened


def written(patched: PatchedIso, folder: Path) -> Path:
    patched.write(folder / "patched.iso")
    return folder / "patched.iso"


def lines_of(iso: BootIso) -> dict[str, str]:
    """The parameters by place, without the RAM disk that ISOLINUX has among them."""
    return {
        str(config.place): " ".join(word for word in line.parameters.words if not word.startswith("initrd="))
        for config in iso.configs
        for line in config.lines
    }


@pytest.mark.parametrize("layout", IsoLayout)
def test_every_configuration_is_found(made: Callable[[IsoLayout], Path], layout: IsoLayout) -> None:
    with bootiso.open_iso(made(layout)) as iso:
        wanted = {LOADER_ENTRY: PARAMETERS, GRUB_ENTRIES: PARAMETERS}
        if layout in ISOLINUX:
            wanted[ISOLINUX_ENTRIES] = PARAMETERS
        if layout is IsoLayout.GRUB_ESP_MENU:
            wanted[f"/{ESP_CONFIG} in boot image 1"] = PARAMETERS
        assert lines_of(iso) == wanted
        assert iso.unresolved == ()
        assert (ISOLINUX_CONFIG in {config.path for config in iso.configs}) is (layout in ISOLINUX)


@pytest.mark.parametrize("layout", IsoLayout)
def test_every_boot_loader_is_named(made: Callable[[IsoLayout], Path], layout: IsoLayout) -> None:
    with bootiso.open_iso(made(layout)) as iso:
        found = {(loader.firmware, loader.kind) for loader in iso.loaders}
        paths = {loader.place.path for loader in iso.loaders if loader.place}
    bios = {(Firmware.BIOS, LoaderKind.ISOLINUX)} if layout in ISOLINUX else set()
    bios |= {(Firmware.BIOS, LoaderKind.GRUB)} if layout in GRUB_FOR_BIOS else set()
    uefi = {(Firmware.UEFI, LoaderKind.UNKNOWN if layout is IsoLayout.ARM64 else LoaderKind.GRUB)}
    assert found == bios | (uefi if layout is not IsoLayout.BIOS_ONLY else set())
    if layout in ISOLINUX:
        assert "/isolinux/isolinux.bin" in paths
    if layout not in {IsoLayout.BIOS_ONLY, IsoLayout.ARM64}:
        assert {path.lower() for path in paths} >= {"/efi/boot/bootx64.efi"}


@pytest.mark.parametrize("layout", IsoLayout)
def test_a_patched_iso_is_what_was_asked_for(
    tmp_path: Path, made: Callable[[IsoLayout], Path], layout: IsoLayout
) -> None:
    original = made(layout)
    put = {"/new/dir/file": b"new", "/layout.txt": b"longer than a sector " * 200}
    with bootiso.open_iso(original) as iso:
        before = lines_of(iso)
        patched = iso.patch(parameters=CHANGE, files=put, initrd_files={"/etc/x": b"y"})
        target = written(patched, tmp_path)
    assert target.stat().st_size == patched.size == patched.report.size
    with bootiso.open_iso(target) as again:
        assert lines_of(again) == dict.fromkeys(before, CHANGED)
        assert again.image.volume_id == VOLUME_ID
    files, old = bootisos.everything(target, tmp_path), bootisos.everything(original, tmp_path)
    changed = {path for path in files if files[path] != old.get(path)} - {"/boot.catalog", "/isolinux/boot.cat"}
    expected = {*put, INITRD, LOADER_ENTRY, GRUB_ENTRIES}
    expected |= {ISOLINUX_ENTRIES} if layout in ISOLINUX else set()
    assert changed - {"/boot/grub/eltorito.img"} == expected
    assert {path: files[path] for path in put} == put
    assert files[INITRD].startswith(PLACEHOLDER.initrd)
    bootisos.check_medium(target)
    if layout in bootisos.WITH_GPT:
        assert bootisos.gpt_problems(target) == bootisos.gpt_problems(original)


@pytest.mark.parametrize("names", [Names.ROCK_RIDGE, Names.BOTH, Names.JOLIET, Names.PLAIN])
@pytest.mark.parametrize("layout", [IsoLayout.GRUB, IsoLayout.ISOLINUX_XORRISO])
def test_each_view_of_the_tree_is_changed(tmp_path: Path, layout: IsoLayout, names: Names) -> None:
    original = make(layout, tmp_path / "original.iso", names=names)
    with bootiso.open_iso(original) as iso:
        target = written(iso.patch(parameters=CHANGE, files={"/new.txt": b"new"}), tmp_path)
    views = {Names.ROCK_RIDGE: ["-R"], Names.BOTH: ["-R", "-J"], Names.JOLIET: ["-J"], Names.PLAIN: [""]}[names]
    for view in views:
        plain = not view
        config = GRUB_ENTRIES.upper() + ";1" if plain else GRUB_ENTRIES
        assert CHANGED in isos.by_isoinfo(target, view, config).decode().replace("'", "")
        assert isos.by_isoinfo(target, view, "/NEW.TXT;1" if plain else "/new.txt") == b"new"


def test_a_configuration_inside_of_the_efi_system_partition_is_changed(
    tmp_path: Path, made: Callable[[IsoLayout], Path]
) -> None:
    with bootiso.open_iso(made(IsoLayout.GRUB_ESP_MENU)) as iso:
        patched = iso.patch(parameters=CHANGE)
        target = written(patched, tmp_path)
        assert Place(path=f"/{ESP_CONFIG}", boot_image=1) in {config.place for config in patched.report.configs}
    with bootiso.open_iso(target) as again:
        offset = again.image.boot_images[1].offset
    assert CHANGED in bootisos.file_in_boot_image(target, offset, ESP_CONFIG).decode().replace("'", "")
    assert bootisos.gpt_problems(target) == ""


def test_a_configuration_in_an_image_that_is_in_the_tree_is_changed_in_both(tmp_path: Path) -> None:
    # An ISOLINUX layout whose EFI system partition, a file of the tree, has a menu too.
    plain = make(IsoLayout.EFI_ONLY, tmp_path / "plain.iso")
    with bootiso.open_iso(plain) as iso:
        image = iso.read(ESP_IMAGE)
    esp = tmp_path / "esp.img"
    esp.write_bytes(image)
    menu = tmp_path / "grub.cfg"
    menu.write_text("menuentry x {\n linux /boot/vmlinuz quiet\n}\n")
    oracles.output("mcopy", "-i", str(esp), str(menu), f"::{ESP_CONFIG}")
    with bootiso.open_iso(plain) as iso:
        original = iso.patch(files={ESP_IMAGE: esp})
        original.write(tmp_path / "original.iso")
    with bootiso.open_iso(tmp_path / "original.iso") as iso:
        target = written(iso.patch(parameters=change("ours")), tmp_path)
    with bootiso.open_iso(target) as again:
        (boot_image,) = again.image.boot_images
        assert boot_image.path == ESP_IMAGE
        text = bootisos.file_in_boot_image(target, boot_image.offset, ESP_CONFIG)
        assert b"linux /boot/vmlinuz quiet ours" in text.replace(b"'", b"")
        inside = tmp_path / "inside.img"
        inside.write_bytes(bootisos.extracted(target, ESP_IMAGE, tmp_path))
        assert bootisos.file_in_boot_image(inside, 0, ESP_CONFIG) == text


@pytest.mark.parametrize("layout", IsoLayout)
def test_patching_twice_is_patching_once(tmp_path: Path, made: Callable[[IsoLayout], Path], layout: IsoLayout) -> None:
    with bootiso.open_iso(made(layout)) as iso:
        target = written(iso.patch(parameters=CHANGE), tmp_path)
    with bootiso.open_iso(target) as again:
        twice = again.patch(parameters=CHANGE)
        assert twice.report.configs == ()
        assert twice.report.inline_size == 0
        assert twice.sha256() == hashlib.sha256(target.read_bytes()).hexdigest()


def test_nothing_asked_is_nothing_changed(iso: BootIso) -> None:
    patched = iso.patch()
    assert patched.size == iso.size
    assert patched.report.inline_size == 0
    assert patched.sha256() == hashlib.sha256(iso.path.read_bytes()).hexdigest()


def test_it_reads_the_same_at_any_place(tmp_path: Path, iso: BootIso) -> None:
    patched = iso.patch(parameters=CHANGE, files={"/a": b"b" * 9000})
    whole = written(patched, tmp_path).read_bytes()
    assert b"".join(patched.chunks()) == whole
    assert patched.sha256() == hashlib.sha256(whole).hexdigest()
    for offset in (0, 1, 511, 2047, 32767, 34816, patched.size // 2, patched.size - 5, patched.size, patched.size + 9):
        for size in (0, 1, 513, 70_000):
            assert patched.read_at(offset, size) == whole[offset : offset + size]
    assert b"".join(patched.chunks(1000, 5000)) == whole[1000:5000]
    assert b"".join(patched.chunks(patched.size - 10)) == whole[-10:]


def test_what_is_put_from_a_file_costs_no_memory(tmp_path: Path, iso: BootIso) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3_000_001))
    patched = iso.patch(files={"/pool/large": large})
    assert patched.report.inline_size < 100_000
    assert bootisos.extracted(written(patched, tmp_path), "/pool/large", tmp_path) == large.read_bytes()
    os.utime(large, ns=(0, 0))
    with pytest.raises(SourceChanged, match="large"):
        patched.sha256()


def test_the_tag_tells_one_change_from_another(iso: BootIso) -> None:
    tags = [iso.patch(parameters=change(f"node={number % 3}")).etag for number in range(6)]
    assert tags[:3] == tags[3:]
    assert len(set(tags)) == 3
    assert iso.patch().etag not in tags


def test_the_initial_ram_disk_gets_files_behind_its_own(tmp_path: Path, iso: BootIso) -> None:
    patched = iso.patch(initrd_files={"/etc/ours.conf": b"a = 1\n"})
    assert patched.report.initrds == (Place(path=INITRD),)
    content = bootisos.extracted(written(patched, tmp_path), INITRD, tmp_path)
    archive = content[-(-len(PLACEHOLDER.initrd) // 4) * 4 :]
    assert content.startswith(PLACEHOLDER.initrd)
    listed = subprocess.run(["cpio", "-it", "--quiet"], input=archive, capture_output=True, check=True).stdout
    assert listed.split() == [b"etc", b"etc/ours.conf"]


def test_a_chosen_ram_disk_gets_them_alone(tmp_path: Path) -> None:
    other = {"/other/initrd": b"disk"}
    with bootiso.open_iso(make(IsoLayout.GRUB, tmp_path / "a.iso", files=other)) as iso:
        patched = iso.patch(initrd_files={"/x": b"y"}, initrds=["other/initrd"])
        assert patched.report.initrds == (Place(path="/other/initrd"),)
        with pytest.raises(BootIsoRefused, match="/nothing"):
            iso.patch(initrd_files={"/x": b"y"}, initrds=["/nothing"])


def test_ram_disks_and_files_for_them_come_together(iso: BootIso) -> None:
    with pytest.raises(BootIsoRefused, match="no files for them"):
        iso.patch(initrds=[INITRD])
    with pytest.raises(BootIsoRefused, match="no initial RAM disk was named"):
        iso.patch(initrd_files={"/x": b"y"}, initrds=())
    with pytest.raises(BootIsoRefused, match="one text"):
        iso.patch(initrd_files={"/x": b"y"}, initrds=INITRD)


def test_a_renamed_volume_is_found_by_its_configuration(tmp_path: Path) -> None:
    parameters = f"root=live:CDLABEL={VOLUME_ID} quiet"
    original = make(IsoLayout.ISOLINUX_XORRISO, tmp_path / "a.iso", parameters=parameters)
    with bootiso.open_iso(original) as iso:
        target = written(iso.patch(volume_id="NODE_1"), tmp_path)
        for refused in ("two words", "", "é", "X" * 33):
            with pytest.raises(DiskError):
                iso.patch(volume_id=refused)
    with bootiso.open_iso(target) as again:
        assert again.image.volume_id == "NODE_1"
        assert set(lines_of(again).values()) == {"root=live:CDLABEL=NODE_1 quiet"}
    assert oracles.blkid(str(target))["LABEL"] == "NODE_1"


def test_lists_of_checksums_are_right_again(tmp_path: Path) -> None:
    plain = make(IsoLayout.ISOLINUX_XORRISO, tmp_path / "plain.iso")
    before = bootisos.everything(plain, tmp_path)
    skipped = {"/isolinux/boot.cat", "/isolinux/isolinux.bin"}
    lists = {
        "/md5sum.txt": "".join(f"{hashlib.md5(before[p]).hexdigest()}  .{p}\n" for p in before if p not in skipped),  # noqa: S324
        "/SHA256SUMS": "".join(f"{hashlib.sha256(before[p]).hexdigest()} *{p[1:]}\n" for p in (GRUB_ENTRIES, INITRD)),
        "/boot/sha512sum.txt": f"{hashlib.sha512(before[INITRD]).hexdigest()}  initrd.img\n",
        "/boot/grub/linux.cfg.sig": "a signature",
        "/SHA256SUMS.gpg": "another",
    }
    files = {path: text.encode() for path, text in lists.items()}
    with bootiso.open_iso(make(IsoLayout.ISOLINUX_XORRISO, tmp_path / "a.iso", files=files)) as iso:
        patched = iso.patch(parameters=CHANGE, initrd_files={"/x": b"y"})
        target = written(patched, tmp_path)
    assert patched.report.checksum_files == ("/SHA256SUMS", "/boot/sha512sum.txt", "/md5sum.txt")
    assert {warning.split()[0] for warning in patched.report.warnings} == {
        "/SHA256SUMS.gpg",
        "/boot/grub/linux.cfg.sig",
    }
    bootisos.everything(target, tmp_path)
    tree = tmp_path / f"tree-of-{target.name}"
    for program, name in (("md5sum", "md5sum.txt"), ("sha256sum", "SHA256SUMS")):
        subprocess.run([program, "--quiet", "-c", name], cwd=tree, check=True)
    subprocess.run(["sha512sum", "--quiet", "-c", "sha512sum.txt"], cwd=tree / "boot", check=True)


@pytest.mark.parametrize("content", ["text", bytearray(b"bytes"), None])
def test_contents_of_another_type_are_refused_and_never_left_out(tmp_path: Path, iso: BootIso, content: object) -> None:
    files: dict[str, bytes] = {"/there": b"", "/a": content}  # type: ignore[dict-item]
    with pytest.raises(BootIsoRefused, match="'/a' are neither bytes nor a Path"):
        iso.patch(files=files)
    with pytest.raises(BootIsoRefused, match="'/a' are neither bytes nor a Path"):
        iso.patch(initrd_files=files)
    with pytest.raises(BootIsoRefused, match="'/a' are neither bytes nor a Path"):
        bootiso.patch_with_xorriso(iso.path, tmp_path / "new.iso", files=files)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["/../x", "..", "", "/", "/a//b", "/a\0b", "/boot", "/boot/grub/grub.cfg/x", "/boot/grub/"],
)
def test_paths_that_can_not_be_put_are_refused(iso: BootIso, path: str) -> None:
    with pytest.raises(BootIsoRefused):
        iso.patch(files={path: b""})
    if path not in {"/boot", "/boot/grub/grub.cfg/x"}:
        with pytest.raises(BootIsoRefused):
            iso.patch(initrd_files={path: b""})


@pytest.mark.parametrize("path", ["/link", "/link/x", "/here/link/x"])
def test_nothing_is_put_through_a_symbolic_link(tmp_path: Path, path: str) -> None:
    tree = tmp_path / "tree"
    (tree / "here").mkdir(parents=True)
    (tree / "isolinux").mkdir()
    (tree / "isolinux/isolinux.bin").write_bytes(Path("/usr/lib/ISOLINUX/isolinux.bin").read_bytes())
    for link in (tree / "link", tree / "here/link"):
        link.symlink_to("/isolinux")
    made = tmp_path / "links.iso"
    boot = ("-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    oracles.output("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-o", str(made), *boot, str(tree))
    with bootiso.open_iso(made) as iso, pytest.raises(BootIsoRefused, match="symbolic link"):
        iso.patch(files={path: b""})


@pytest.mark.parametrize("parameters", ["a=it's", "b=back\\slash", "x=" + "y" * 3000])
def test_parameters_that_a_loader_can_not_hand_on_are_refused(iso: BootIso, parameters: str) -> None:
    with pytest.raises(KernelParametersInvalid):
        iso.patch(parameters=bootiso.ParameterChange(append=bootiso.KernelParameters(words=(parameters,))))


def test_parameters_without_a_kernel_are_refused(tmp_path: Path) -> None:
    files = dict.fromkeys((GRUB_ENTRIES, LOADER_ENTRY), b"# nothing\n")
    with bootiso.open_iso(make(IsoLayout.EFI_ONLY, tmp_path / "a.iso", files=files)) as iso:
        with pytest.raises(BootIsoRefused, match="no line that starts a kernel"):
            iso.patch(parameters=CHANGE)
        with pytest.raises(BootIsoRefused, match="names an initial RAM disk"):
            iso.patch(initrd_files={"/x": b""})


def test_an_image_without_a_boot_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"data")
    made = tmp_path / "data.iso"
    oracles.output("xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", str(made), str(tmp_path / "tree"))
    with pytest.raises(BootIsoRefused, match="boot record"):
        bootiso.open_iso(made)


@pytest.mark.parametrize("layout", [IsoLayout.GRUB, IsoLayout.BIOS_ONLY])
def test_a_truncated_image_is_refused(tmp_path: Path, made: Callable[[IsoLayout], Path], layout: IsoLayout) -> None:
    whole = made(layout).read_bytes()
    cut = tmp_path / "cut.iso"
    for size in (0, 100, 32768, 34816, 40000, len(whole) // 2, len(whole) - 2048 * 200):
        cut.write_bytes(whole[:size])
        with pytest.raises(IsoInvalid, match=r"cut\.iso"):
            bootiso.open_iso(cut)


def test_what_is_no_iso_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed):
        bootiso.open_iso(tmp_path / "missing.iso")
    (tmp_path / "text.iso").write_bytes(b"no iso\n" * 9000)
    with pytest.raises(IsoInvalid):
        bootiso.open_iso(tmp_path / "text.iso")


def test_a_closed_iso_reads_nothing(made: Callable[[IsoLayout], Path]) -> None:
    with bootiso.open_iso(made(IsoLayout.GRUB)) as iso:
        patched = iso.patch(parameters=CHANGE)
    with pytest.raises(SourceFailed):
        patched.read_at(0, 1)
    with pytest.raises(SourceFailed):
        iso.patch(parameters=CHANGE)
    with pytest.raises(SourceFailed):
        iso.patch()


def test_a_failing_patch_leaves_no_file_open(tmp_path: Path, iso: BootIso) -> None:
    (tmp_path / "there").write_bytes(b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SourceFailed):
        iso.patch(files={"/a": tmp_path / "there", "/b": tmp_path / "missing"})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_references_that_go_in_circles_end(tmp_path: Path) -> None:
    files = {
        GRUB_ENTRIES: b"source /boot/grub/grub.cfg\nconfigfile /boot/grub/linux.cfg\nsource /boot/grub/gone.cfg\n"
        b"source $nobody/knows.cfg\nmenuentry x {\n linux /boot/vmlinuz quiet\n}\n",
    }
    with bootiso.open_iso(make(IsoLayout.GRUB, tmp_path / "a.iso", files=files)) as iso:
        assert len(iso.unresolved) == 2
        assert "/boot/grub/gone.cfg isn't there" in iso.unresolved[0]
        assert "$nobody/knows.cfg" in iso.unresolved[1]
        assert lines_of(iso)[GRUB_ENTRIES] == "quiet"


def test_a_media_checksum_can_be_made(tmp_path: Path, iso: BootIso) -> None:
    patched = iso.patch(parameters=CHANGE, media_checksum=MediaChecksum.RENEWED)
    with bootiso.open_iso(written(patched, tmp_path)) as again:
        assert again.image.media_checksum is not None
        removed = again.patch(parameters=change("more"))
        assert (patched.report.media_checksum, removed.report.media_checksum) == tuple(reversed(MediaChecksum))
    assert iso.patch(parameters=CHANGE).report.media_checksum is None


def test_too_little_room_is_found_before_writing(tmp_path: Path, iso: BootIso, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real[:4], 1, *real[5:])))
    with pytest.raises(NotEnoughRoom):
        iso.patch().write(tmp_path / "x.iso")
    with pytest.raises(NotEnoughRoom):
        bootiso.patch_with_xorriso(iso.path, tmp_path / "x.iso", parameters=CHANGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", [layout for layout in IsoLayout if layout is not IsoLayout.GRUB_MKRESCUE])
def test_xorriso_makes_the_same_files(tmp_path: Path, made: Callable[[IsoLayout], Path], layout: IsoLayout) -> None:
    put = {"/new/dir/file": b"new", "/layout.txt": b"other"}
    theirs = tmp_path / "theirs.iso"
    report = bootiso.patch_with_xorriso(
        made(layout), theirs, parameters=CHANGE, files=put, initrd_files={"/x": b"y"}, volume_id="NEW_NAME"
    )
    with bootiso.open_iso(made(layout)) as iso:
        patched = iso.patch(parameters=CHANGE, files=put, initrd_files={"/x": b"y"}, volume_id="NEW_NAME")
        ours = written(patched, tmp_path)
    assert report.configs == patched.report.configs
    with bootiso.open_iso(theirs) as one, bootiso.open_iso(ours) as other:
        assert lines_of(one) == lines_of(other)
        assert one.image.volume_id == other.image.volume_id == "NEW_NAME"
    found, wanted = bootisos.everything(theirs, tmp_path), bootisos.everything(ours, tmp_path)
    # They know where they are.
    for path in ("/boot.catalog", "/isolinux/boot.cat", "/isolinux/isolinux.bin", "/boot/grub/eltorito.img"):
        found.pop(path, None), wanted.pop(path, None)
    assert found == wanted
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"theirs.iso", "patched.iso"}


def test_what_xorriso_can_not_do_leaves_nothing(tmp_path: Path, made: Callable[[IsoLayout], Path]) -> None:
    # It finds that partitions overlap which it made so itself.
    with pytest.raises(ProgramFailed, match="overlap"):
        bootiso.patch_with_xorriso(made(IsoLayout.GRUB_MKRESCUE), tmp_path / "x.iso", parameters=CHANGE)
    assert list(tmp_path.iterdir()) == []
