"""efibootmgr's lists: what is decided by one names only entries that are there, and once done, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from libironic_disk.pure.boot import efientries
from libironic_disk.pure.boot.efientries import Changes, Entries, Entry, Loader, Wanted
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain

ESP = "103d52ca-ae12-d74b-bcfa-2cf7bddff8c4"
WANTED = tuple(
    Wanted(loader=Loader(disk="/dev/sda", number=1, partuuid=ESP, path=path, options=options), label=label)
    for path, label, options in (
        ("EFI/fedora/shimx64.efi", "Fedora", ""),
        ("EFI/debian/grubx64.efi", "debian", ""),
        ("EFI/fedora/shimx64.efi", "Fedora", "\\EFI\\Linux\\fedora.efi "),
    )
)
_SEED = f"""\
BootCurrent: 0001
Timeout: 0 seconds
BootOrder: 0001,0000,0003,0002
Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)
Boot0001* Fedora\tHD(1,GPT,{ESP},0x800,0x20000)/File(\\EFI\\fedora\\shimx64.efi)
Boot0002  debian\tHD(1,GPT,{ESP},0x800,0x20000)/File(\\EFI\\debian\\grubx64.efi)..a.
Boot0003* Windows Boot Manager\tHD(2,MBR,0x12345678,0x800,0x20000)/\\EFI\\Microsoft\\bootmgfw.efi
      dp: 04 01 2a 00
    data: 5c 00 45 00
MirroredPercentageAbove4G: 0.00
"""


class _EfiEntries(Plain):
    words = words_of(
        b"\n|\t|Boot0001* |Boot000A  |Boot0001|BootOrder: 0001,0002\n|HD(1,GPT,|HD(1,MBR,0x1,",
        b",0x800,0x20000)/|File(\\|)|\\|.efi",
        b"    data: |5c 00 |Fedora|debian|\\EFI\\fedora\\shimx64.efi|(|*|\xff|\r|\xe2\x80\xa8|\xd9\xa1",
        ESP.encode(),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        yield _SEED.encode()
        lines = _SEED.splitlines(keepends=True)
        while True:
            yield "".join(random.choices(lines, k=random.randint(1, 20))).encode()

    def examine(self, data: bytes) -> str:
        found = efientries.parse(data.decode(errors="replace"))
        asked: list[str] = []

        def disposable(file: str) -> bool:
            asked.append(file)
            return len(file) % 2 == 1

        changes = efientries.decide(found, WANTED, disposable=disposable)
        assert not any(file.startswith("/") or "\\" in file for file in asked)
        self._check(found, changes)
        after = self._done(found, changes)
        if after is not None:
            again = efientries.decide(after, WANTED, disposable=disposable)
            assert not again.remove, again
            assert not again.create, again
            assert not again.activate, again
        return f"{len(changes.keep)} kept, {min(len(changes.remove), 2)} removed"

    def _check(self, found: Entries, changes: Changes) -> None:
        kept = [each for each, _ in changes.keep]
        assert sorted([*kept, *changes.create], key=WANTED.index) == list(WANTED)
        assert all(entry in found.entries and entry.starts(each.loader) for each, entry in changes.keep)
        assert len({entry.number for _, entry in changes.keep}) <= len(kept)
        for entry in changes.remove:
            assert entry in found.entries
            assert entry not in [each for _, each in changes.keep]
            assert entry.label in {each.label for each in WANTED}
            assert entry.number not in changes.order
        assert {*found.order} - {entry.number for entry in changes.remove} <= {*changes.order}

    def _done(self, found: Entries, changes: Changes) -> Entries | None:
        """Return what the firmware has when it is done; None where it is ambiguous which entry a number means."""
        numbers = [entry.number for entry in found.entries]
        free = [f"{number:04X}" for number in range(0x300) if f"{number:04X}" not in numbers]
        if len(set(numbers)) < len(numbers):
            return None
        entries = [
            Entry(
                number=each.number,
                active=each.active or each.number in changes.activate,
                label=each.label,
                path=each.path,
                data=each.data,
            )
            for each in found.entries
            if each not in changes.remove
        ]
        made = []
        for each, number in zip(changes.create, free, strict=False):
            options = efientries._shown(each.loader.options.encode("utf-16-le"))
            path = f"HD(1,GPT,{ESP},0x800,0x20000)/File({each.loader.file}){options}"
            entries.append(Entry(number=number, active=True, label=each.label, path=path))
            made.append(number)
        return Entries(entries=tuple(entries), order=changes.order_with(made))


TARGET = _EfiEntries()
