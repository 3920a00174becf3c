"""Where configuration is found, from the layouts of several distributions, and where looking ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk import bootiso
from libironic_disk.bootiso import Place
from libironic_disk.pure.bootisos import discovering
from libironic_disk.pure.loaders.config import LARGEST_CONFIG
from tests.support import oracles
from tests.support.bootisos import efi_iso

MENU = b"menuentry x {\n linux /boot/vmlinuz quiet\n initrd /boot/initrd\n}\n"
ENTRY = b"title Linux\nlinux /vmlinuz\ninitrd /initrd\noptions quiet\n"
SYSTEM = {"/boot/vmlinuz": b"kernel", "/boot/initrd": b"disk"}


def places(iso: Path) -> dict[str, list[str]]:
    with bootiso.open_iso(iso) as opened:
        return {str(config.place): [str(line.parameters) for line in config.lines] for config in opened.configs}


def test_a_menu_in_the_partition_leads_into_the_tree(tmp_path: Path) -> None:
    # Debian's and Ubuntu's: the signed GRUB reads a stub of a few lines.
    stub = b"search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\nsource $prefix/x86_64-efi/grub.cfg\n"
    tree = {
        "/.disk/info": b"",
        "/boot/grub/x86_64-efi/grub.cfg": b"configfile /boot/grub/other.cfg\n",
        "/boot/grub/other.cfg": MENU,
    }
    found = places(efi_iso(tmp_path / "a.iso", esp={"EFI/debian/grub.cfg": stub}, tree=SYSTEM | tree))
    assert found["/boot/grub/other.cfg"] == ["quiet"]
    assert set(found) == {
        "/EFI/debian/grub.cfg in boot image 0",
        "/boot/grub/x86_64-efi/grub.cfg",
        "/boot/grub/other.cfg",
    }


@pytest.mark.parametrize("in_tree", [True, False])
def test_entries_of_the_boot_loader_specification_are_found_in_both(tmp_path: Path, in_tree: bool) -> None:
    # Arch's: kernel and entries are in the partition as well as in the tree.
    files = {"loader/entries/01-linux.conf": ENTRY, "loader/entries/readme.txt": ENTRY, "vmlinuz": b"k", "initrd": b"d"}
    iso = efi_iso(tmp_path / "a.iso", esp=files, tree=files, in_tree=in_tree)
    assert places(iso) == {
        "/loader/entries/01-linux.conf": ["quiet"],
        "/loader/entries/01-linux.conf in boot image 0": ["quiet"],
    }


@pytest.mark.parametrize("in_tree", [True, False])
def test_a_ram_disk_inside_of_the_partition_gets_files(tmp_path: Path, in_tree: bool) -> None:
    files = {"loader/entries/linux.conf": ENTRY, "vmlinuz": b"k", "initrd": b"disk" * 300}
    iso = efi_iso(tmp_path / "a.iso", esp=files, tree=files, in_tree=in_tree)
    with bootiso.open_iso(iso) as opened:
        opened.patch(initrd_files={"/etc/x": b"y"}).write(tmp_path / "b.iso")
    with bootiso.open_iso(tmp_path / "b.iso") as opened:
        inside = opened._found.views[0].read("/initrd", 10_000)
        assert inside == opened.read("/initrd")
        assert inside.startswith(b"disk" * 300 + b"070701")


def test_opensuse_s_loader_is_beside_its_configuration(tmp_path: Path) -> None:
    tree = {"/EFI/BOOT/grub.cfg": b"set prefix=(${root})/boot/x86_64/grub2-efi\n" + MENU}
    assert places(efi_iso(tmp_path / "a.iso", esp={"EFI/BOOT/x.cfg": MENU}, tree=SYSTEM | tree)) == {
        "/EFI/BOOT/grub.cfg": ["quiet"]
    }


def test_one_file_is_read_once_whoever_names_it(tmp_path: Path) -> None:
    tree = {
        "/boot/grub/grub.cfg": b"source /boot/grub/b.cfg\n" * 1000,
        "/boot/grub/b.cfg": b"source /boot/grub/grub.cfg\n" + MENU,
    }
    iso = efi_iso(tmp_path / "a.iso", esp={"x": b""}, tree=SYSTEM | tree)
    assert places(iso) == {"/boot/grub/grub.cfg": [], "/boot/grub/b.cfg": ["quiet"]}


def test_symbolic_links_are_followed_inside_of_the_tree(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "boot/grub2").mkdir(parents=True)
    (root / "boot/grub").symlink_to("grub2")
    (root / "boot/grub2/grub.cfg").symlink_to("/menus/./here/../menu.cfg")
    (root / "boot/grub2/loopback.cfg").symlink_to("loopback.cfg")
    (root / "menus/here").mkdir(parents=True)
    (root / "menus/menu.cfg").write_bytes(MENU + b"source ../../../../boot/grub/grub.cfg\n")
    (root / "boot/initrd").symlink_to("../disk")
    (root / "disk").write_bytes(b"disk")
    (root / "efi.img").write_bytes(b"no file system")
    iso = tmp_path / "a.iso"
    oracles.output(
        "xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", str(iso), "-e", "efi.img", "-no-emul-boot", str(root)
    )
    assert places(iso) == {"/menus/menu.cfg": ["quiet"]}
    with bootiso.open_iso(iso) as opened:
        assert opened.patch(initrd_files={"/x": b""}).report.initrds == (Place(path="/disk"),)


def test_looking_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "MOST_CONFIGS", 5)
    monkeypatch.setattr(discovering, "MOST_REFERENCES", 20)
    sources = b"".join(b"source /boot/grub/%d.cfg\n" % number for number in range(100))
    tree = {f"/boot/grub/{number}.cfg": sources for number in range(100)} | {"/boot/grub/grub.cfg": sources}
    with bootiso.open_iso(efi_iso(tmp_path / "a.iso", esp={"x": b""}, tree=tree)) as iso:
        assert len(iso.configs) == 5
        assert len(iso.unresolved) <= 100
        assert any("more than 5 configuration files" in words for words in iso.unresolved)
        assert any("more than 20 references" in words for words in iso.unresolved)


def test_a_file_that_is_no_configuration_is_said(tmp_path: Path) -> None:
    tree = {"/boot/grub/grub.cfg": MENU + b"#" * LARGEST_CONFIG}
    with bootiso.open_iso(efi_iso(tmp_path / "a.iso", esp={"x": b""}, tree=tree)) as iso:
        assert iso.configs == ()
        assert iso.unresolved == ("/boot/grub/grub.cfg: it is larger than a configuration file may be",)


def test_damage_in_one_file_system_hides_no_other(tmp_path: Path) -> None:
    iso = efi_iso(tmp_path / "a.iso", esp={"EFI/BOOT/grub.cfg": MENU}, tree={"/boot/grub/grub.cfg": MENU})
    with bootiso.open_iso(iso) as opened:
        (image,) = opened.image.boot_images
        start = opened.read_at(image.offset, 512)
    data = bytearray(iso.read_bytes())
    reserved = int.from_bytes(start[14:16], "little") * 512
    root = image.offset + reserved + start[16] * int.from_bytes(start[22:24], "little") * 512
    # The first cluster of every entry of the root directory leads out of the file system.
    for at in range(root, root + 512, 32):
        data[at + 26 : at + 28] = b"\xf0\x0f"
    iso.write_bytes(data)
    with bootiso.open_iso(iso) as opened:
        assert [config.place for config in opened.configs] == [Place(path="/boot/grub/grub.cfg")]
        assert any("boot image 0" in words for words in opened.unresolved)
