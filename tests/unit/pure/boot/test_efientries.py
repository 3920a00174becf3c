"""The comparison alone; efibootmgr's own output is read in test_efi_entries.py of the other room."""

from __future__ import annotations

import pytest

from libironic_disk.pure.boot import efientries
from libironic_disk.pure.boot.efientries import Changes, Entries, Entry, Loader, Wanted

ESP = "103d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
OTHER = "203d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
SHIM = "EFI/fedora/shimx64.efi"
UKI = "\\EFI\\Linux\\fedora.efi "


def wanted(path: str = SHIM, label: str = "Fedora", *, options: str = "") -> Wanted:
    return Wanted(loader=Loader(disk="/dev/sda", number=1, partuuid=ESP, path=path, options=options), label=label)


def entry(
    number: str, path: str = SHIM, *, label: str = "Fedora", partuuid: str = ESP, data: str = "", active: bool = True
) -> Entry:
    file = path.replace("/", "\\")
    return Entry(
        number=number,
        active=active,
        label=label,
        path=f"HD(1,GPT,{partuuid},0x800,0x20000)/File(\\{file}){data}",
    )


def found(*entries: Entry, order: tuple[str, ...] | None = None) -> Entries:
    return Entries(entries=entries, order=tuple(each.number for each in entries) if order is None else order)


def decide(have: Entries, *want: Wanted, gone: tuple[str, ...] = ()) -> Changes:
    return efientries.decide(have, want, disposable=lambda path: path in gone)


def test_nothing_is_there_and_all_are_created_in_their_order() -> None:
    changes = decide(found(entry("0001", "EFI/x.efi", label="x")), wanted(), wanted("EFI/debian/shimx64.efi", "debian"))
    assert changes == Changes(create=(wanted(), wanted("EFI/debian/shimx64.efi", "debian")), order=("0001",))
    assert changes.order_with(("0002", "0003")) == ("0002", "0003", "0001")
    assert str(changes).splitlines() == [
        "create Fedora for \\EFI\\fedora\\shimx64.efi",
        "create debian for \\EFI\\debian\\shimx64.efi",
        "boot order new,new,0001",
    ]


def test_what_is_there_is_kept_whatever_its_label_and_case() -> None:
    """Case 15: upper-case .EFI."""
    kept = entry("0004", "EFI/FEDORA/SHIMX64.EFI", label="Somebody's")
    assert decide(found(entry("0001", "EFI/y.efi"), kept), wanted()) == Changes(
        keep=((wanted(), kept),), order=("0001", "0004")
    )


def test_another_disks_entry_of_the_same_label_is_not_touched() -> None:
    """Case 15: two disks with the same label."""
    theirs = entry("0001", partuuid=OTHER)
    assert decide(found(theirs), wanted(), gone=(SHIM,)) == Changes(create=(wanted(),), order=("0001",))


def test_a_stale_entry_goes_only_if_its_file_is_gone() -> None:
    here, gone = entry("0001", "EFI/here/x.efi"), entry("0002", "EFI/gone/x.efi")
    unlabelled = entry("0003", "EFI/gone/x.efi", label="Windows")
    changes = decide(found(here, gone, unlabelled), wanted(), gone=("EFI/gone/x.efi",))
    assert changes == Changes(remove=(gone,), create=(wanted(),), order=("0001", "0003"))


def test_of_two_for_one_loader_ours_goes_and_a_strangers_stays() -> None:
    first, ours, strange = entry("0001"), entry("0002"), entry("0003", label="Mine")
    changes = decide(found(first, ours, strange), wanted())
    assert changes == Changes(keep=((wanted(), first),), remove=(ours,), order=("0001", "0003"))
    assert "remove 0002 (Fedora)" in str(changes)


def test_entries_for_one_file_are_told_apart_by_their_options() -> None:
    shown = UKI.encode("utf-16-le").decode().replace("\0", ".")
    plain, uki = entry("0001"), entry("0002", label="Fedora 42", data=shown)
    both = (wanted(), wanted(label="Fedora 42", options=UKI))
    for have in (found(plain, uki), found(uki, plain)):
        changes = decide(have, *both)
        assert changes.keep == ((both[0], plain), (both[1], uki))
        assert (changes.create, changes.remove) == ((), ())
    assert decide(found(plain), *both).create == both[1:]
    assert decide(found(uki), *both).create == both[:1]
    # With nothing better, what tells the same file more is good enough for one who has nothing to tell.
    assert decide(found(uki), both[0]).keep == ((both[0], uki),)


def test_options_as_version_18_shows_them() -> None:
    text = (
        "BootOrder: 0002\n"
        f"Boot0002* Fedora 42\tHD(1,GPT,{ESP},0x800,0x20000)/\\EFI\\fedora\\shimx64.efi6500660069\n"
        "      dp: 04 01 2a 00 / 7f ff 04 00\n"
        f"    data: {UKI.encode('utf-16-le').hex(' ')}\n"
    )
    want = wanted(options=UKI)
    assert [each.number for _, each in decide(efientries.parse(text), want).keep] == ["0002"]
    assert decide(efientries.parse(text), wanted(options="quiet")).create == (wanted(options="quiet"),)


def test_an_entry_that_firmware_passes_over_is_brought_back() -> None:
    asleep = entry("0005", active=False)
    changes = decide(found(entry("0001", "EFI/x.efi"), asleep, order=("0001",)), wanted())
    assert changes == Changes(keep=((wanted(), asleep),), activate=("0005",), order=("0005", "0001"))


def test_lines_that_are_no_entries_and_labels_that_are_no_text() -> None:
    text = (
        "BootCurrent: 0001\nBootNext: 0003\nBootOrder: 00ab,0001\n"
        "Boot0001* no path\n"
        f"Boot00ab  \ufffd\ufffd \r x\tHD(1,GPT,{ESP},0x800,0x20000)/File(\\EFI\\a (1).efi)\n"
        "Boot0002* \tVenHw(99e275e7-75a0-4b37-a2e6-c5385e6c00cb)\n"
    )
    have = efientries.parse(text)
    assert [(each.number, each.active, each.file()) for each in have.entries] == [
        ("00AB", False, "EFI/a (1).efi"),
        ("0002", True, ""),
    ]
    assert have.order == ("00AB", "0001")
    assert [each.number for _, each in decide(have, wanted("EFI/a (1).efi")).keep] == ["00AB"]


def test_a_label_that_looks_like_a_line_takes_away_no_entry() -> None:
    real = f"Boot0007* Fedora\tHD(1,GPT,{ESP},0x800,0x20000)/File(\\EFI\\here\\x.efi)\n"
    line = f"Boot0007* Fedora\tHD(1,GPT,{ESP},0x800,0x20000)/File(\\EFI\\gone\\x.efi)\tx\n"
    have = efientries.parse(f"BootOrder: 0007,0009\n{real}Boot0009* a\n{line}")
    assert [each.number for each in have.entries] == ["0007", "0007"]
    assert decide(have, wanted(), gone=("EFI/gone/x.efi",)).remove == ()


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("File(\\EFI\\x.efi)d.a.t.a.", "EFI/x.efi"),
        ("\\EFI\\x.EFI", "EFI/x.EFI"),
        ("\\EFI\\x.efi57494e444f5753", ""),
        ("File(\\EFI\\x.efi\\y.efi)", "EFI/x.efi/y.efi"),
        ("File(\\EFI\\noend", ""),
    ],
)
def test_the_file_of_an_entry_where_it_is_clear(path: str, file: str) -> None:
    there = Entry(number="0001", active=True, label="x", path=f"HD(1,GPT,{ESP},0x800,0x20000)/{path}")
    assert there.file() == file
