"""Words of GRUB's script language, which for quotes are a shell's."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libironic_disk.pure.boot import grubscript
from libironic_disk.pure.boot.grubscript import Variables


def commands(text: str, **values: str) -> list[tuple[str, ...]]:
    return list(grubscript.commands(text, Variables(values)))


@given(st.text(st.sampled_from("ab '\"\\\t="), max_size=30))
def test_quotes_and_backslashes_are_those_of_a_shell(text: str) -> None:
    try:
        words = shlex.split(text)
    except ValueError:
        assume(False)
    assert commands(text) == ([tuple(words)] if words else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a $x b", [("a", "1", "2", "b")]),
        ("a ${x}b", [("a", "1", "2b")]),
        ('a "$x"b', [("a", "1 2b")]),
        ("a '$x' \\$x \"\\$x\"", [("a", "$x", "$x", "$x")]),
        ("a $y ${y}z", [("a", "$y", "${y}z")]),
        ("a$empty $empty ''", [("a", "")]),
    ],
)
def test_a_value_is_split_outside_of_quotes_alone(text: str, found: list[tuple[str, ...]]) -> None:
    assert commands(text, x="1 2", empty="") == found


def test_commands_end_at_lines_and_operators_and_brackets() -> None:
    assert commands("a b;c&&d || e{f}\n\ng # h ; i\nj#k") == [
        *[("a", "b"), ("c",), ("d",), ("e",), ("{",), ("f",), ("}",), ("g",), ("j#k",)]
    ]


def test_a_backslash_joins_lines_in_the_middle_of_a_word() -> None:
    assert commands('a b\\\nc \\\n d "e\\\nf"') == [("a", "bc", "d", "ef")]


@given(st.text(max_size=200) | st.text(st.sampled_from("a$x{}'\"\\ \n#;&"), max_size=200))
def test_any_text_has_commands(text: str) -> None:
    for words in commands(text, x="a b"):
        assert words


@given(st.text(max_size=120) | st.text(st.sampled_from("a$x{}'\"\\ \n#;&"), max_size=120))
def test_words_know_where_they_are(text: str) -> None:
    end = 0
    for command in grubscript.source_commands(text, Variables({"x": "a b"})):
        for source in command:
            assert end <= source.start < source.end <= len(text)
            end = source.end
            # Read again by itself, without what surrounds it, it is the same.
            if not {"{", "}"} & set(source.words):
                again = commands(text[source.start : source.end], x="a b")
                assert again == ([source.words] if source.words else [])


def test_words_know_what_they_are_made_of() -> None:
    [(first, second, third)] = grubscript.source_commands("a b$x\"$y ${z}\"'$no' \\\n $@", Variables({"x": "1 2"}))
    assert (first.start, first.end, first.words, first.variables) == (0, 1, ("a",), ())
    assert (second.words, second.variables) == (("b1", "2$y ${z}$no"), ("x", "y", "z"))
    assert (third.words, third.variables) == (("$@",), ("@",))
