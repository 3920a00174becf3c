from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libironic_disk.pure.boot import bootcsv
from libironic_disk.pure.boot.bootcsv import BootCsv, CsvLoader

DEBIAN = Path("/usr/lib/shim/BOOTX64.CSV")
LINE = "shimx64.efi,Fedora,,This is the boot entry for Fedora"
SHIM = CsvLoader(file="shimx64.efi", label="Fedora")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"\xff\xfe", "utf-16-le"),
        (b"", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"", "utf-16-be"),
        (b"\xef\xbb\xbf", "utf-8"),
        (b"", "ascii"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r", "\n\n", "\0", "\n\0\0\0", "\0garbage,behind,it"])
def test_every_encoding_and_every_end(mark: bytes, encoding: str, end: str) -> None:
    """Case 15: UTF-16LE without a byte order mark is what Debian ships."""
    assert bootcsv.parse(mark + (LINE + end).encode(encoding)) == BootCsv(loaders=(SHIM,))


def test_debians_own_file_as_another_program_decodes_it() -> None:
    """Case 15."""
    data = DEBIAN.read_bytes()
    text = subprocess.run(
        ["iconv", "-f", "UTF-16LE", "-t", "UTF-8"], input=data, capture_output=True, check=True
    ).stdout
    (loader,) = bootcsv.parse(data).loaders
    assert text.decode().split(",")[:3] == [loader.file, loader.label, loader.options]


def test_lines_options_and_what_is_left_out() -> None:
    text = (
        "shimx64.efi,Fedora\r\n"
        "\r\n"
        'shimx64.efi,"Fedora",\\EFI\\Linux\\fedora.efi ,UKI, with more commas\r\n'
        " SHIMX64.EFI , Red Hat ,  ,\r\n"
    )
    assert bootcsv.parse(text.encode()) == BootCsv(
        loaders=(
            SHIM,
            CsvLoader(file="shimx64.efi", label='"Fedora"', options="\\EFI\\Linux\\fedora.efi "),
            CsvLoader(file="SHIMX64.EFI", label="Red Hat"),
        )
    )


@pytest.mark.parametrize(
    "file",
    [
        "..",
        ".",
        "../shimx64.efi",
        "..\\BOOT\\BOOTX64.EFI",
        "/EFI/x.efi",
        "\\x.efi",
        "C:x.efi",
        "*.efi",
        "漢.efi",
        "x\t.efi",
        "x" * 256,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_and_the_next_line_counts(file: str) -> None:
    read = bootcsv.parse(f"{file},bad\n{LINE}\n".encode())
    assert read.loaders == (SHIM,)
    (problem,) = read.problems
    assert problem.startswith("line 1: ")
    assert problem.isprintable()


@pytest.mark.parametrize("line", ["shimx64.efi", "shimx64.efi,", "shimx64.efi,  ,x"])
def test_a_line_without_a_label_is_refused_as_shim_does(line: str) -> None:
    assert bootcsv.parse(line.encode()) == BootCsv(problems=("line 1: 'shimx64.efi' has no label",))


def test_a_label_is_made_fit_for_a_menu_and_options_are_never_changed() -> None:
    read = bootcsv.parse(f"a.efi,bell\a 🙂 é{'x' * 99}\nb.efi,b,bell\a\nc.efi,c,{'x' * 513}\nd.efi,d,🙂".encode())
    assert read.loaders == (CsvLoader(file="a.efi", label=f"bell? ? é{'x' * 55}"),)
    assert [problem[:8] for problem in read.problems] == ["line 2: ", "line 3: ", "line 4: "]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "names no loader"),
        (b"\0\0", "names no loader"),
        (b"\xff\xfe", "names no loader"),
        (b"a.efi,\xff\xfe\xfd", "no text in utf-8"),
        (b"\xff\xfea\0\x00\xd8", "no text in utf-16-le"),
        (b"\xff\xfea\0b", "no text in utf-16-le"),
        (b"x" * (bootcsv.LARGEST + 1), "more than 16384 bytes"),
    ],
)
def test_what_is_no_csv_file_is_said_in_words(data: bytes, problem: str) -> None:
    read = bootcsv.parse(data)
    assert read.loaders == ()
    assert len(read.problems) == 1
    assert problem in read.problems[0]


def test_a_file_of_endless_lines_has_an_end() -> None:
    read = bootcsv.parse(b"a.efi,a\n" * 2000)
    assert len(read.loaders) == bootcsv.MOST_LINES
    assert read.problems == ("it has more than 64 lines; the others are left out",)
