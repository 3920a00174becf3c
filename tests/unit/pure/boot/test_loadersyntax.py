"""Each loader hands on the words that a line was rendered from, or there is no such line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import MAX_COMMAND_LINE, LoaderSyntax, check, rendered
from tests.support.commandlines import by_grub, handed_on, kernel_words
from tests.support.parameters import NASTY, REFUSED

SPECIAL = st.sampled_from([*"$\\{}()<>|&;#*?!`'=~-[]% ", "${", "||", "&&", "  ", "à", "é", "🙂", "initrd=", "--", "\\"])
WORDS = (
    st.lists(
        SPECIAL | st.text(st.characters(codec="utf-8", exclude_characters='"'), max_size=3), min_size=1, max_size=6
    )
    .map("".join)
    .filter(lambda word: word.isprintable() and bool(word.strip()))
)
HARMLESS = st.from_regex(r"[A-Za-z0-9_.]+(=[A-Za-z0-9_.:,/=@%+-]*)?", fullmatch=True).filter(
    lambda word: "initrd=" not in word
)


@given(st.lists(WORDS | HARMLESS, max_size=8).map(tuple), st.sampled_from(LoaderSyntax))
def test_exactly_these_words_reach_the_kernel_or_they_are_refused(words: tuple[str, ...], syntax: LoaderSyntax) -> None:
    try:
        line = rendered(KernelParameters(words=words), syntax)
    except KernelParametersInvalid:
        return
    assert kernel_words(handed_on(line, syntax)) == list(words)
    if syntax is LoaderSyntax.LOADER_ENTRY:
        assert kernel_words(by_grub(line)) == list(words)


@given(st.lists(HARMLESS, max_size=20).map(tuple), st.sampled_from(LoaderSyntax))
def test_what_is_harmless_is_never_refused(words: tuple[str, ...], syntax: LoaderSyntax) -> None:
    rendered(KernelParameters(words=words), syntax)


@pytest.mark.parametrize("syntax", LoaderSyntax)
def test_nasty_parameters_are_handed_on(syntax: LoaderSyntax) -> None:
    line = rendered(NASTY[syntax], syntax)
    assert kernel_words(handed_on(line, syntax)) == list(NASTY[syntax].words)
    # The tests that boot have some more to say on the same line, and init takes 32 words.
    assert len(line.encode()) < MAX_COMMAND_LINE - 200
    assert sum("." not in word.partition("=")[0] for word in NASTY[syntax].words) < 30


@pytest.mark.parametrize(("syntax", "word"), [(syntax, word) for syntax, words in REFUSED.items() for word in words])
def test_what_a_loader_would_change_is_refused(syntax: LoaderSyntax, word: str) -> None:
    with pytest.raises(KernelParametersInvalid) as caught:
        rendered(KernelParameters(words=("quiet", word)), syntax)
    assert caught.value.parameter == word
    # It is that loader's own affair.
    assert word in KernelParameters.parse(rendered(KernelParameters(words=(word,)), LoaderSyntax.KERNEL)).words


def test_a_lone_dash_is_nothing_to_syslinux() -> None:
    assert rendered(KernelParameters(words=("-", "x")), LoaderSyntax.SYSLINUX) == "- x"
    with pytest.raises(KernelParametersInvalid, match="alone"):
        rendered(KernelParameters(words=("-",)), LoaderSyntax.SYSLINUX)


@pytest.mark.parametrize("syntax", LoaderSyntax)
def test_what_the_kernel_would_cut_off_is_refused(syntax: LoaderSyntax) -> None:
    whole = KernelParameters(words=("x" * (MAX_COMMAND_LINE - 3), "ro"))
    assert rendered(whole, syntax)
    with pytest.raises(KernelParametersInvalid, match="2048 bytes"):
        check(KernelParameters(words=("x" * (MAX_COMMAND_LINE - 2), "ro")), syntax)
    with pytest.raises(KernelParametersInvalid, match="keep 2046"):
        check(whole, syntax, limit=MAX_COMMAND_LINE - 1)


def test_ipxe_takes_255_words_and_the_kernel_s_name_is_one() -> None:
    rendered(KernelParameters(words=("x",) * 254), LoaderSyntax.IPXE)
    with pytest.raises(KernelParametersInvalid, match="255 words"):
        rendered(KernelParameters(words=("x",) * 255), LoaderSyntax.IPXE)
    with pytest.raises(KernelParametersInvalid, match="255 words"):
        rendered(KernelParameters(words=("x",) * 253 + ("y z",)), LoaderSyntax.IPXE)


@pytest.mark.parametrize(
    ("syntax", "line"),
    [
        (LoaderSyntax.KERNEL, 'quiet "a=b c" $x'),
        (LoaderSyntax.GRUB, "'quiet' 'a=b c' '$x'"),
        (LoaderSyntax.SYSLINUX, 'quiet "a=b c" $x'),
        (LoaderSyntax.IPXE, 'quiet "a=b c" $x'),
    ],
)
def test_each_loader_s_quotes(syntax: LoaderSyntax, line: str) -> None:
    assert rendered(KernelParameters(words=("quiet", "a=b c", "$x")), syntax) == line


def test_a_loader_entry_is_quoted_for_both_of_its_readers() -> None:
    assert (
        rendered(KernelParameters(words=("quiet", "a;b", "x=y z")), LoaderSyntax.LOADER_ENTRY) == 'quiet "a;b" "x=y z"'
    )
