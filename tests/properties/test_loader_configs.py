"""Any configuration, any change: every kernel's line says what it should afterwards, and nothing else is touched."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from libironic_disk.errors import KernelParametersInvalid, LoaderConfigRefused
from libironic_disk.pure.boot.kernelparams import SEPARATORS, KernelParameters, ParameterChange
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, rendered
from libironic_disk.pure.loaders.config import ConfigKind
from libironic_disk.pure.loaders.reading import changed_config, read_config
from tests.support.commandlines import by_grub, kernel_words

GRUB, SYSLINUX, ENTRY = ConfigKind

SPECIAL = st.sampled_from([*"$\\{}()<>|&;#*?!`'=~-[]% ", "${", "||", "initrd=", "à", "é", "🙂", "{x}", "$x"])
LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
ANY_WORD = (
    st.lists(SPECIAL | LETTERS, min_size=1, max_size=6)
    .map(lambda parts: "".join(letter for letter in "".join(parts) if letter.isprintable() and letter != '"'))
    .map(lambda word: word if word.strip() and word not in SEPARATORS else f"x{word}")
)
WORD = st.sampled_from(
    ["quiet", "splash", "console=tty0", "console=ttyS0,115200", "vga=788", "a=b", "root=live:CDLABEL=X"]
)
SEPARATED = st.lists(WORD | st.sampled_from(["--", "---"]), max_size=6)


def parameters(words: st.SearchStrategy[str]) -> st.SearchStrategy[KernelParameters]:
    return st.lists(words, max_size=3).map(lambda chosen: KernelParameters(words=tuple(chosen)))


CHANGES = st.builds(
    ParameterChange,
    append=parameters(ANY_WORD | WORD),
    replace=parameters(ANY_WORD | WORD),
    delete=st.lists(st.sampled_from(["quiet", "console", "vga=788", "---", "a"]), max_size=3).map(tuple),
)


@dataclass(frozen=True, kw_only=True)
class Written:
    """Bytes before a kernel's parameters, and how these are written there."""

    before: bytes
    words: tuple[str, ...]
    text: bytes


def blanks(kind: ConfigKind) -> st.SearchStrategy[str]:
    joined = [" ", "  ", "\t", " \t "] + ([" \\\n  ", "\\\n \\\n"] if kind is GRUB else [])
    return st.sampled_from(joined)


@st.composite
def arguments(draw: st.DrawFn, kind: ConfigKind) -> tuple[tuple[str, ...], bytes]:
    """Words, and one of the ways to write them."""
    words = draw(SEPARATED)
    text = ""
    for word in words:
        ways = [word, f'"{word}"', word.replace("=", '="', 1) + '"' if "=" in word else word]
        if kind is GRUB:
            ways = [word, f"'{word}'", f'"{word}"', "\\" + word, word[:2] + "''" + word[2:]]
        text += draw(blanks(kind)) + draw(st.sampled_from(ways))
    return tuple(words), text.encode()


FILLING = {
    GRUB: [
        b"# linux /not a=b quiet\n",
        b"set timeout=5\n",
        b"if [ x$a = xb ]; then\n  insmod quiet\nfi\n",
        b"function quiet { true; }\n",
        b"menuentry 'Shell; { quiet' { chainloader /shell.efi }\n",
        b"source $prefix/quiet.cfg\n\n",
    ],
    SYSLINUX: [
        b"# append quiet\n",
        b"  TEXT HELP\nappend quiet\nlabel quiet\n  ENDTEXT\n",
        b"menu color border quiet\r\n",
        b"label local\n  localboot 0\n  append quiet\n",
        b"label tool\n\tcom32 hdt.c32\n\tappend quiet\n",
        b"include quiet.cfg\n",
    ],
}
END = {GRUB: [b"\n", b" # quiet\n", b" ; initrd /i\n", b"\t\n"], SYSLINUX: [b"\n", b"\r\n", b"  \n"]}


@st.composite
def configs(draw: st.DrawFn, kind: ConfigKind) -> tuple[bytes, list[tuple[str, ...]]]:
    """A file, and the words on each of its kernels' lines."""
    text = b""
    lines: list[tuple[str, ...]] = []
    if kind is SYSLINUX and draw(st.booleans()):
        text += b"APPEND unused=1\n"
    for number in range(draw(st.integers(1, 4))):
        text += b"".join(draw(st.lists(st.sampled_from(FILLING[kind]), max_size=3)))
        words, written = draw(arguments(kind))
        lines.append(words)
        end = draw(st.sampled_from(END[kind]))
        if kind is GRUB:
            command = draw(st.sampled_from([b"linux", b"linuxefi", b"linux16"]))
            text += b"menuentry 'entry %d' --class x {\n  %s\t/vmlinuz%s%s}\n" % (number, command, written, end)
        else:
            keyword = draw(st.sampled_from([b"append", b"APPEND", b"\tAppend"]))
            text += b"label entry%d\n  kernel vmlinuz\n%s%s%s" % (number, keyword, written or b" -", end)
    return text, lines


@st.composite
def entries(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, ...]]]:
    """A loader entry, and the words of all its options."""
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    words: tuple[str, ...] = ()
    rows = [b"title quiet", b"# options quiet", b"linux\t/vmlinuz", b"initrd /quiet"]
    for _ in range(draw(st.integers(0, 3))):
        more, written = draw(arguments(ENTRY))
        words += more
        rows.append(b"options" + written)
        rows += draw(st.lists(st.sampled_from([b"initrd /more", b"", b"sort-key quiet"]), max_size=1))
    return end.join(rows) + draw(st.sampled_from([b"", end])), [words]


FILES = st.one_of(
    configs(GRUB).map(lambda made: (GRUB, *made)),
    configs(SYSLINUX).map(lambda made: (SYSLINUX, *made)),
    entries().map(lambda made: (ENTRY, *made)),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(FILES, CHANGES)
def test_every_line_is_changed_and_nothing_else(
    file: tuple[ConfigKind, bytes, list[tuple[str, ...]]], change: ParameterChange
) -> None:
    kind, text, lines = file
    before = read_config(text, kind, prefix="/boot/grub")
    assert [line.parameters.words for line in before.lines] == lines
    try:
        changed = changed_config(text, kind, change)
    except KernelParametersInvalid as error:
        event(f"refused: {error.reason[:20]}")
        return
    event(f"changed: {kind}")
    after = read_config(changed, kind, prefix="/boot/grub")
    assert [line.parameters for line in after.lines] == [change.applied(line.parameters) for line in before.lines]
    assert after.references == before.references
    assert changed_config(changed, kind, change) == changed
    if all(words == new.parameters.words for words, new in zip(lines, after.lines, strict=True)):
        assert changed == text
    assert without_parameters(changed, kind) == without_parameters(text, kind)


def without_parameters(text: bytes, kind: ConfigKind) -> bytes:
    """Return what isn't a kernel's line, found in another way than by the reader."""
    if kind is GRUB:
        joined = re.sub(rb"\\\n", b"", text)
        return re.sub(
            rb"^(  linux\w*\t/vmlinuz).*?(?=(?: # quiet| ; initrd /i|\t)?$)", rb"\1", joined, flags=re.MULTILINE
        )
    if kind is SYSLINUX:
        return re.sub(rb"(\n  kernel vmlinuz\n\t?append)[^\r\n]*", rb"\1", text, flags=re.IGNORECASE)
    kept = [line for line in text.splitlines() if not line.startswith(b"options")]
    return b"\n".join(kept)


@settings(max_examples=60)
@given(configs(GRUB), CHANGES)
def test_grub_can_still_read_it(file: tuple[bytes, list[tuple[str, ...]]], change: ParameterChange) -> None:
    text, _ = file
    try:
        changed = changed_config(text, GRUB, change)
    except KernelParametersInvalid:
        return
    subprocess.run(["grub-script-check"], input=changed, check=True)


@given(st.lists(ANY_WORD, min_size=1, max_size=4), st.sampled_from(ConfigKind))
def test_what_was_written_is_what_the_kernel_gets(words: list[str], kind: ConfigKind) -> None:
    start = {GRUB: b"linux /k", SYSLINUX: b"label k\nappend", ENTRY: b"linux /k\noptions"}[kind]
    try:
        changed = changed_config(start, kind, ParameterChange(append=KernelParameters(words=tuple(words))))
    except KernelParametersInvalid:
        return
    line = changed.removeprefix(start).decode()
    assert kernel_words(by_grub(line) if kind is GRUB else line) == words
    assert rendered(KernelParameters(words=tuple(words)), LoaderSyntax(kind.value)) == line.removeprefix(" ")


PIECES = st.sampled_from(
    [
        *(b"linux ", b"menuentry ", b"{", b"}", b"'", b'"', b"\\", b"\n", b"$x", b"${x", b"set x=", b" ", b"quiet"),
        *(b"label ", b"append ", b"kernel ", b"text help\n", b"endtext\n", b"options ", b"\r", b"\xff", b"\0", b"-"),
        *(b"if ", b"fi\n", b"; ", b"for x in ", b"source ", b"include ", b"initrd=", b"default ", b"config ", b"menu "),
        *(b"---", b"#", b"\nlinux /k quiet ", b"\nlabel x\nappend quiet ", b"\noptions a ", b"set x='quiet a'; "),
    ]
)
BYTES = st.binary(max_size=200) | st.lists(PIECES, max_size=30).map(b"".join)


@settings(max_examples=500)
@given(BYTES, st.sampled_from(ConfigKind), st.sampled_from([b"", b"a ", b"quiet $x "]), CHANGES.filter(bool))
def test_any_bytes_are_read_and_changed_or_refused(
    text: bytes, kind: ConfigKind, first: bytes, change: ParameterChange
) -> None:
    text = {GRUB: b"linux /k ", SYSLINUX: b"label k\nappend ", ENTRY: b"linux /k\noptions "}[kind] + first + text
    before = read_config(text, kind, prefix="/x")
    try:
        changed = changed_config(text, kind, change)
    except (KernelParametersInvalid, LoaderConfigRefused) as error:
        event(type(error).__name__)
        return
    event("changed" if changed != text else "unchanged")
    assert changed_config(changed, kind, change) == changed
    assert len(read_config(changed, kind, prefix="/x").lines) == len(before.lines)
