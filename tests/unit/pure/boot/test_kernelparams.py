from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import (
    SEPARATORS,
    KernelParameters,
    ParameterChange,
    name_of,
    printable,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters='"'), min_size=1).filter(
    lambda word: word.isprintable() and bool(word.strip())
)


def test_parses_as_the_kernel_does() -> None:
    parsed = KernelParameters.parse('quiet  console=ttyS0,115200 dyndbg="file foo +p" "a=b c"')
    assert parsed.words == ("quiet", "console=ttyS0,115200", "dyndbg=file foo +p", "a=b c")
    assert str(parsed) == 'quiet console=ttyS0,115200 "dyndbg=file foo +p" "a=b c"'


@given(st.lists(WORDS))
def test_every_value_reads_back(words: list[str]) -> None:
    parameters = KernelParameters(words=tuple(words))
    assert KernelParameters.parse(str(parameters)) == parameters


@pytest.mark.parametrize("word", ["", "   ", "a\nb", "a\0b", "a\tb", "a\x1b[0m", "a\u2028b", 'a"b', "a\r"])
def test_refuses_what_can_not_be_passed_on(word: str) -> None:
    with pytest.raises(KernelParametersInvalid) as caught:
        KernelParameters(words=("quiet", word))
    assert caught.value.parameter == word


@pytest.mark.parametrize("text", ['a="b', "quiet\nroot=/dev/sda", "a\x07b"])
def test_refuses_text_that_is_no_command_line(text: str) -> None:
    with pytest.raises(KernelParametersInvalid):
        KernelParameters.parse(text)


def test_adds_and_looks_up_by_name() -> None:
    both = KernelParameters.parse("root=/dev/sda1 quiet") + KernelParameters.parse("ro")
    assert both.words == ("root=/dev/sda1", "quiet", "ro")
    assert "root" in both
    assert "ro" in both
    assert "roo" not in both
    assert "/dev/sda1" not in both


def parse(text: str) -> KernelParameters:
    return KernelParameters.parse(text)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ("a b", ParameterChange(append=parse("c d")), "a b c d"),
        ("a --- b", ParameterChange(append=parse("c")), "a c --- b"),
        ("a -- b --- d", ParameterChange(append=parse("c")), "a c -- b --- d"),
        ("--- b", ParameterChange(append=parse("c")), "c --- b"),
        ("a c d", ParameterChange(append=parse("c d")), "a c d"),
        ("a d c", ParameterChange(append=parse("c d")), "a d c c d"),
        ("a x=1 b x=2 --- x=3 c", ParameterChange(replace=parse("x=9")), "a x=9 b --- c"),
        ("a --- x=1", ParameterChange(replace=parse("x=9")), "a --- x=9"),
        ("a --- b", ParameterChange(replace=parse("x=9")), "a x=9 --- b"),
        ("a x b", ParameterChange(replace=parse("x=1 x=2 y")), "a x=1 x=2 b y"),
        ("quiet a quiet=1 --- quiet b", ParameterChange(delete=("quiet",)), "a --- b"),
        ("x=1 x=2 x", ParameterChange(delete=("x=1",)), "x=2 x"),
        ("a --- b -- c", ParameterChange(delete=("---", "b")), "a -- c"),
        ("x=1 y", ParameterChange(replace=parse("x=2"), delete=("x", "y")), "x=2"),
        ("console=a console=b", ParameterChange(append=parse("console=c"), delete=("console",)), "console=c"),
        ("a", ParameterChange(append=parse("z"), replace=parse("r=1")), "a r=1 z"),
        ("a b", ParameterChange(), "a b"),
        ("", ParameterChange(append=parse("a")), "a"),
    ],
)
def test_a_change(before: str, change: ParameterChange, after: str) -> None:
    assert str(change.applied(parse(before))) == after
    assert str(change.applied(parse(after))) == after


def test_only_a_change_that_asks_for_something_is_one() -> None:
    assert not ParameterChange()
    assert ParameterChange(append=parse("a"))
    assert ParameterChange(replace=parse("a"))
    assert ParameterChange(delete=("a",))


@pytest.mark.parametrize("separator", ["--", "---"])
def test_a_separator_is_nothing_to_append(separator: str) -> None:
    for parameters in (parse(f"a {separator} b"), parse(separator)):
        with pytest.raises(KernelParametersInvalid, match="separator"):
            ParameterChange(append=parameters)
        with pytest.raises(KernelParametersInvalid, match="separator"):
            ParameterChange(replace=parameters)


FEW = st.sampled_from(["a", "b", "c", "a=1", "a=2", "b=1", "c="])
CHANGES = st.builds(
    ParameterChange,
    append=st.lists(FEW, max_size=3).map(lambda words: KernelParameters(words=tuple(words))),
    replace=st.lists(FEW, max_size=3).map(lambda words: KernelParameters(words=tuple(words))),
    delete=st.lists(FEW | st.sampled_from(["--", "---"]), max_size=3).map(tuple),
)
COMMAND_LINES = st.lists(FEW | st.sampled_from(["--", "---", "x", "y z"]), max_size=10).map(tuple)


@given(COMMAND_LINES, CHANGES)
def test_a_change_is_made_once_and_keeps_the_rest_in_order(words: tuple[str, ...], change: ParameterChange) -> None:
    edited = change.edited(words)
    after = KernelParameters(words=tuple(word.word for word in edited))
    assert change.applied(KernelParameters(words=words)) == after
    assert change.applied(after) == after
    origins = [word.origin for word in edited if word.origin is not None]
    assert origins == sorted(set(origins))
    assert [words[origin] for origin in origins] == [word.word for word in edited if word.origin is not None]
    # What the change doesn't name is there as it was; made again, it keeps every word.
    assert [word for word in after.words if word in {"x", "y z"}] == [word for word in words if word in {"x", "y z"}]
    assert [word.origin for word in change.edited(after.words)] == list(range(len(after.words)))


@given(COMMAND_LINES, CHANGES)
def test_a_change_does_what_it_says(words: tuple[str, ...], change: ParameterChange) -> None:
    after = change.applied(KernelParameters(words=words)).words
    separator = next((at for at, word in enumerate(after) if word in SEPARATORS), len(after))
    count = len(change.append.words)
    assert after[separator - count : separator] == change.append.words
    rest = after[: separator - count] + after[separator:]
    replaced = {name_of(word) for word in change.replace.words}
    for name in replaced:
        wanted = [word for word in change.replace.words if name_of(word) == name]
        assert [word for word in rest if name_of(word) == name] == wanted
    for word in rest:
        assert name_of(word) in replaced or not {word, name_of(word)} & set(change.delete)


def test_what_only_looks_like_a_space_to_the_kernel_is_quoted() -> None:
    # lib/ctype.c: the byte A0 is one, and "à" is C3 A0.
    assert str(KernelParameters(words=("à", "é", "x=à b"))) == '"à" é "x=à b"'
    assert parse('"à"').words == ("à",)


def test_somebody_else_s_words_are_shown() -> None:
    assert printable(["a", "a\x07b", "  ", 'x"y', "\udcff"]).words == ("a", "a\ufffdb", "x\ufffdy", "\ufffd")
