"""shim's ``BOOTX64.CSV``: what is read of any bytes is plain, bounded, and reads the same when it is written again."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from libironic_disk.pure.boot import bootcsv
from libironic_disk.pure.boot.bootcsv import BootCsv, CsvLoader
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, repeated

_LINES = (
    "shimx64.efi,Fedora,,This is the boot entry for Fedora\n",
    "grubx64.efi,Größe,\\EFI\\x.efi ,c\r\n",
    "a.efi,b\n",
)


class _BootCsv(Plain):
    words = words_of(
        b",|\n|\r|\r\n|\0|,\0|\0,|\n\0|\xff\xfe|\xfe\xff|\xef\xbb\xbf|..|\\|/|a.efi|\xd8\x00|\xc3\xa9",
        b"\xe2\x80\xa8|\x07",
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        def sound() -> bytes:
            mark, encoding = random.choice(
                [
                    (b"", "utf-8"),
                    (b"\xef\xbb\xbf", "utf-8"),
                    (b"\xff\xfe", "utf-16-le"),
                    (b"\xfe\xff", "utf-16-be"),
                    (b"", "utf-16-le"),
                ]
            )
            return mark + "".join(random.choices(_LINES, k=random.randint(1, 4))).encode(encoding)

        return repeated(sound)

    def examine(self, data: bytes) -> str:
        read = bootcsv.parse(data)
        assert read.loaders or read.problems
        assert len(read.loaders) <= bootcsv.MOST_LINES
        assert all(problem and problem.isprintable() for problem in read.problems)
        for loader in read.loaders:
            assert not bootcsv.refusal(loader.file)
            assert not set(loader.file) & set("\\/:\0")
            assert 0 < len(loader.label) <= bootcsv.LONGEST_LABEL
            assert len(loader.options) <= bootcsv.LONGEST_OPTIONS
            assert (loader.file + loader.label + loader.options).isprintable()
        # A label loses the blanks at its end with the text behind them.
        loaders = tuple(
            CsvLoader(file=each.file, label=each.label.strip(), options=each.options) for each in read.loaders
        )
        text = "".join(f"{each.file},{each.label},{each.options},\n" for each in loaders)
        if loaders and len(text) < bootcsv.LARGEST // 2:
            assert bootcsv.parse(b"\xff\xfe" + text.encode("utf-16-le")) == BootCsv(loaders=loaders)
        return f"{min(len(read.loaders), 3)} loaders"


TARGET = _BootCsv()
