"""A CSV file is a tenant's: whatever its bytes are, they are read or refused in words."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from libironic_disk.pure.boot import bootcsv
from libironic_disk.pure.boot.bootcsv import BootCsv, CsvLoader

ENCODINGS = st.sampled_from(
    [
        (b"", "utf-8"),
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"", "utf-16-le"),
    ]
)
PIECES = st.sampled_from(
    [b",", b"\n", b"\r\n", b"\0", b",\0", b"\xff\xfe", b"\xfe\xff", b"..", b"\\", b"a.efi", b"\xd8"]
)
PRINTABLE = [each for each in map(chr, range(0x21, 0xD800)) if each.isprintable() and each not in '\\/:*?"<>|,']
LABEL = st.text(st.sampled_from(PRINTABLE), min_size=1, max_size=20)
TWO_BYTES = st.sampled_from([each for each in PRINTABLE if each <= "\u07ff"])
SHOWN = st.text(TWO_BYTES, min_size=1, max_size=20).filter(lambda word: word not in {".", ".."})


@given(st.binary(max_size=300) | st.lists(PIECES | st.binary(max_size=2)).map(b"".join))
@example(b"\xff\xfe,\0,\0,\0")
def test_any_bytes_are_read_or_refused_in_words(data: bytes) -> None:
    read = bootcsv.parse(data)
    assert read.loaders or read.problems
    assert all(problem and problem.isprintable() for problem in read.problems)
    for loader in read.loaders:
        assert bootcsv.refusal(loader.file) == ""
        assert not set(loader.file) & set("\\/:\0")
        assert 0 < len(loader.label) <= bootcsv.LONGEST_LABEL
        assert (loader.file + loader.label + loader.options).isprintable()


@given(ENCODINGS, st.lists(st.tuples(SHOWN, LABEL, SHOWN), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(how: tuple[bytes, str], lines: list[tuple[str, str, str]], end: str) -> None:
    mark, encoding = how
    text = end.join(f"{','.join(line)},comment" for line in lines) + end
    expected = tuple(CsvLoader(file=file, label=label, options=options) for file, label, options in lines)
    assert bootcsv.parse(mark + text.encode(encoding)) == BootCsv(loaders=expected)
