"""Every choice that can be made, and what GRUB's script would do then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import SwitchRefused
from libironic_disk.pure.boot import grubenv, switching
from libironic_disk.pure.boot.multimenu import MAX_ID
from libironic_disk.pure.boot.switching import NAMES, Generation, SwitchState

START = SwitchState(default="a")
ids = st.from_regex(r"[a-z0-9][a-z0-9+~.-]{0,63}", fullmatch=True)


def test_the_default_boots_unless_something_else_was_asked_for() -> None:
    assert START.boots_next == "a"
    assert START.boot_once("b").boots_next == "b"
    assert START.try_boot("b", 3).boots_next == "b"
    assert START.try_boot("b", 3).boot_once("c").boots_next == "c"
    assert START.try_boot("b", 3).boot_once("c").set_default("d").boots_next == "d"


def test_a_confirmed_system_is_the_default() -> None:
    assert START.try_boot("b", 3).confirm() == SwitchState(default="b")


def test_a_rollback_remembers_what_failed() -> None:
    assert START.try_boot("b", 3).rollback() == SwitchState(default="a", failed="b")
    assert START.boot_once("b").rollback() == START


def test_a_trial_that_used_up_its_tries_boots_the_default() -> None:
    state = switching.from_variables({"saved_entry": "a", "trial_entry": "b", "trial_left": "0"})
    assert (state.trial, state.tries_left, state.boots_next) == ("b", 0, "a")
    assert state.confirm().default == "b"


def test_one_character_confirms() -> None:
    variables = switching.to_variables(START.try_boot("b", 1), {})
    assert variables["trial_left"] == "1"
    state = switching.from_variables(variables | {"trial_left": switching.CONFIRMED})
    assert state.boots_next == "b"
    assert switching.to_variables(state, {})["trial_left"] == switching.CONFIRMED


@pytest.mark.parametrize("tries", [0, -1, 10])
def test_a_number_of_tries_that_grub_cannot_count_is_refused(tries: int) -> None:
    with pytest.raises(SwitchRefused, match="1 to 9 tries"):
        START.try_boot("b", tries)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SwitchRefused, match="no other to go back to"):
        START.try_boot("a", 3)
    with pytest.raises(SwitchRefused, match=r"no system is on trial$"):
        START.confirm()
    with pytest.raises(SwitchRefused, match="no system is on trial; b was, and used up its tries"):
        SwitchState(default="a", failed="b").rollback()


def test_an_entry_that_is_gone_is_forgotten() -> None:
    state = START.try_boot("b", 3).boot_once("c")
    assert state.forget("c") == START.try_boot("b", 3)
    assert state.forget("b") == SwitchState(default="a", once="c", failed="b")
    assert state.forget("d") == state


@given(
    default=ids,
    once=ids | st.just(""),
    trial=ids | st.just(""),
    tries=st.integers(0, 9),
    failed=ids | st.just(""),
    generation=st.sampled_from(Generation),
    others=st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), st.text("ab", max_size=9), max_size=4),
)
def test_a_state_fits_in_one_sector_and_is_read_as_it_was_written(
    *, default: str, once: str, trial: str, tries: int, failed: str, generation: Generation, others: dict[str, str]
) -> None:
    state = SwitchState(
        default=default,
        once=once,
        trial=trial,
        tries_left=tries if trial else 0,
        failed=failed,
        generation=generation,
    )
    block = grubenv.render(switching.to_variables(state, others), path="grubenv")
    variables = grubenv.parse(block, path="grubenv")
    assert switching.from_variables(variables) == state
    assert tuple(variables)[: len(NAMES)] == NAMES
    ours = grubenv.render(switching.to_variables(state, {}), path="grubenv").rstrip(b"#")
    assert len(ours) <= grubenv.SECTOR


def test_the_longest_ids_still_fit_in_one_sector() -> None:
    long = "x" * MAX_ID
    state = SwitchState(default=long, once=long, trial=long, tries_left=9, failed=long)
    assert len(grubenv.render(switching.to_variables(state, {}), path="grubenv").rstrip(b"#")) <= grubenv.SECTOR


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=5)))
def test_whatever_the_block_says_is_some_state(variables: dict[str, str]) -> None:
    state = switching.from_variables(variables)
    assert 0 <= state.tries_left <= 9
    assert state.generation in Generation
