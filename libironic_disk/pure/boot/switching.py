"""Which of several systems boots next: the state that GRUB and this library share in GRUB's environment block.

GRUB's side of it is the script in :mod:`libironic_disk.pure.boot.multimenu`. A trial counts down there, before the
system is started: nothing has to be installed in that system, and it need not even come up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libironic_disk.errors import SwitchRefused

MAX_TRIES: Final = 9
"""GRUB's script can't count: each number that it may meet is a branch of it."""
CONFIRMED: Final = "c"
"""What a system on trial writes in the place of the counter, one character for another, to stay."""

DEFAULT, ONCE = "saved_entry", "next_entry"
TRIAL, LEFT, FAILED = "trial_entry", "trial_left", "trial_failed"
GENERATION: Final = "menu_generation"
NAMES: Final = (GENERATION, DEFAULT, ONCE, TRIAL, LEFT, FAILED)
"""The variables, in their order in the block: the counter stands right behind the entry that it counts for."""


class Generation(StrEnum):
    """Of the two menus on the disk, which one GRUB reads; the other one is where the next is prepared."""

    A = "a"
    B = "b"

    @property
    def other(self) -> Generation:
        """The one that is not read."""
        return Generation.B if self is Generation.A else Generation.A


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """What will boot; every system is given by the id of its menu entry, an empty one for none.

    Attributes:
        default: boots whenever nothing else is said.
        once: boots the next time, and then no more.
        trial: boots for as long as it has tries left, unless ``once`` says otherwise.
        tries_left: how often GRUB will still start it.
        confirmed: the system on trial said that it stays; GRUB makes it the default at the next boot.
        failed: the last one that was on trial and never confirmed.
        generation: of the menu.
    """

    default: str
    once: str = ""
    trial: str = ""
    tries_left: int = 0
    confirmed: bool = False
    failed: str = ""
    generation: Generation = Generation.A

    @property
    def boots_next(self) -> str:
        """The entry that GRUB will start at the next boot, if its kernel can be loaded."""
        if self.once:
            return self.once
        return self.trial if self.trial and (self.tries_left or self.confirmed) else self.default

    def set_default(self, entry: str) -> SwitchState:
        """Return the state in which this entry boots from now on; what was to be tried or done once is forgotten."""
        return SwitchState(default=entry, failed=self.failed, generation=self.generation)

    def boot_once(self, entry: str) -> SwitchState:
        """Return the state in which this entry boots next; a trial goes on behind it."""
        return replace(self, once=entry)

    def try_boot(self, entry: str, tries: int) -> SwitchState:
        """Return the state in which this entry boots until it is confirmed, or ``tries`` boots are used up.

        Raises:
            SwitchRefused: another number of tries than 1 to 9, or the entry is the default, to fall back to.
        """
        if not 1 <= tries <= MAX_TRIES:
            raise SwitchRefused(wanted=f"a trial of {entry}", reason=f"it can have 1 to {MAX_TRIES} tries, not {tries}")
        if entry == self.default:
            raise SwitchRefused(
                wanted=f"a trial of {entry}", reason="it is the default, there is no other to go back to"
            )
        return replace(self, once="", trial=entry, tries_left=tries, confirmed=False, failed="")

    def confirm(self) -> SwitchState:
        """Return the state in which the system on trial is the default.

        Raises:
            SwitchRefused: none is on trial.
        """
        if not self.trial:
            raise SwitchRefused(wanted="confirming", reason=_no_trial(self))
        return SwitchState(default=self.trial, once=self.once, generation=self.generation)

    def rollback(self) -> SwitchState:
        """Return the state in which the default boots, whatever was on trial or to be booted once.

        Raises:
            SwitchRefused: there is nothing to take back.
        """
        if not (self.trial or self.once):
            raise SwitchRefused(wanted="a rollback", reason=_no_trial(self))
        return SwitchState(default=self.default, failed=self.trial or self.failed, generation=self.generation)

    def forget(self, entry: str) -> SwitchState:
        """Return the state without an entry that is in the menu no more, which is not the default."""
        kept = replace(self, once="" if self.once == entry else self.once)
        if kept.trial == entry:
            kept = replace(kept, trial="", tries_left=0, confirmed=False, failed=entry)
        return kept


def _no_trial(state: SwitchState) -> str:
    failed = f"; {state.failed} was, and used up its tries" if state.failed else ""
    return f"no system is on trial{failed}"


def from_variables(variables: Mapping[str, str]) -> SwitchState:
    """Read the state as GRUB's script would; what that takes for nothing is nothing here too."""
    left = variables.get(LEFT, "")
    return SwitchState(
        default=variables.get(DEFAULT, ""),
        once=variables.get(ONCE, ""),
        trial=variables.get(TRIAL, ""),
        tries_left=int(left) if left in set("123456789") else 0,
        confirmed=left == CONFIRMED,
        failed=variables.get(FAILED, ""),
        generation=Generation.B if variables.get(GENERATION) == Generation.B else Generation.A,
    )


def to_variables(state: SwitchState, others: Mapping[str, str]) -> dict[str, str]:
    """Return all variables of the block: ours first and always all of them, then what others had put there.

    A variable that is there is overwritten in its place by GRUB, and one that isn't is put behind the last.
    """
    left = ""
    if state.trial:
        left = CONFIRMED if state.confirmed else str(state.tries_left)
    ours = {
        GENERATION: state.generation.value,
        DEFAULT: state.default,
        ONCE: state.once,
        TRIAL: state.trial,
        LEFT: left,
        FAILED: state.failed,
    }
    return ours | {name: value for name, value in others.items() if name not in ours}
