from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters

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
